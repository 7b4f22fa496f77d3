//! `demo`: tells one of the stories, or all of them.

use std::process::ExitCode;

use super::Common;
use crate::demo::{Line, Mark, Story};
use crate::verdict::Verdict;

/// Shows in seconds, on this machine, what a check through the page cache does not see: riva (a bit flips on the
/// platter), fsyncgate (a sync that fails, then succeeds), powercut (names without data), lost-write (a write that does
/// nothing). The first three need root, for loop images; the last needs FUSE.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// riva, fsyncgate, powercut or lost-write [default: all four].
    #[arg(value_parser = story)]
    story: Option<Story>,
    #[command(flatten)]
    common: Common,
}

fn story(text: &str) -> Result<Story, String> {
    let found = Story::ALL.iter().find(|(_, word)| *word == text);
    found.map(|(story, _)| *story).ok_or_else(|| format!("stories: {}", Story::ALL.map(|(_, word)| word).join(", ")))
}

impl Demo {
    /// Tells.
    pub(super) fn run(&self) -> ExitCode {
        let seed = self.common.seed();
        let all = Story::ALL.map(|(story, _)| story);
        let asked = self.story.map_or(all.to_vec(), |story| vec![story]);
        self.common.begin(seed, &format!("stories={}", asked.len()));
        let mut reports = vec![];
        for story in asked {
            if !self.common.json {
                println!("\n{}: {}\n", story.word(), story.title());
            }
            let report = story.tell(seed, &mut |line| self.hear(story, line));
            if self.common.json {
                self.common.show(&report);
            } else {
                println!("\n  {}", ending(&report.verdict));
            }
            reports.push(report);
        }
        self.common.end(&reports)
    }

    fn hear(&self, story: Story, line: &Line) {
        let mark = match line.mark {
            Mark::Step => "",
            Mark::Fooled => "WRONG",
            Mark::Right => "right",
        };
        if self.common.json {
            let (what, says) = (line.what.trim(), &line.says);
            println!(
                "{}",
                serde_json::json!({ "event": "line", "story": story.word(), "what": what, "says": says, "mark": mark })
            );
        } else if line.says.is_empty() {
            println!("  {}", line.what);
        } else {
            println!("  {:<44} {:<24} {mark}", line.what, line.says);
        }
    }
}

fn ending(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Good => "landfall was not fooled.".to_owned(),
        Verdict::Vacuous => "nobody was fooled here: there was nothing to show.".to_owned(),
        other => other.to_string(),
    }
}
