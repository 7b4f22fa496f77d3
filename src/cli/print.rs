//! What packagers and shells ask for: completions and the manual page, from the definition of the command line itself.

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::arguments::Arguments;
use super::console::Console;
use super::failure::Failure;

/// The completions of a shell, on standard output.
pub(super) fn completions(shell: Shell, console: &Console) {
    let mut text = vec![];
    clap_complete::generate(shell, &mut Arguments::command(), "landfall", &mut text);
    console.result(&String::from_utf8_lossy(&text));
}

/// One manual page of all commands, on standard output.
pub(super) fn manual(console: &Console) -> Result<(), Failure> {
    let text = page().map_err(|error| Failure::new("could not write the manual page", &error))?;
    console.result(&String::from_utf8_lossy(&text));
    Ok(())
}

fn page() -> std::io::Result<Vec<u8>> {
    let mut text = vec![];
    let mut whole = Arguments::command();
    whole.build();
    let man = Man::new(whole.clone());
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    for command in whole.get_subcommands().filter(|command| !command.is_hide_set()) {
        let mut section = vec![];
        let man = Man::new(command.clone());
        man.render_synopsis_section(&mut section)?;
        man.render_description_section(&mut section)?;
        man.render_options_section(&mut section)?;
        let heading = format!(".SH LANDFALL {}\n", command.get_name().to_uppercase());
        text.extend(heading.bytes());
        // A page has one level below its sections.
        let section = String::from_utf8_lossy(&section).replace("\n.SH ", "\n.SS ");
        text.extend(section.strip_prefix(".SH ").map_or(section.clone(), |rest| format!(".SS {rest}")).bytes());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_page_has_every_command_and_every_option() {
        let text = String::from_utf8(page().unwrap()).unwrap();
        let plain = text.replace("\\-", "-");
        let mut whole = Arguments::command();
        whole.build();
        for command in whole.get_subcommands().filter(|command| !command.is_hide_set()) {
            let heading = format!(".SH LANDFALL {}", command.get_name().to_uppercase());
            assert!(plain.contains(&heading), "{heading}");
            for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(plain.contains(&format!("--{option}")), "{option}");
            }
        }
        assert!(!text.contains("CHILD"), "what is hidden has no section");
    }
}
