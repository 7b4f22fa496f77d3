//! The matrix as one HTML page that needs nothing else: a heat map of layer against fault, each cell leading to the
//! plan, the seed and the log of its run. No script; the page works from a file.

use std::fmt::Write;

use super::Cell;
use super::rows::Layer;
use crate::verdict::{Report, Verdict};

const STYLE: &str = include_str!("page.css");

/// The page. `seed` is that of the run.
pub fn render(cells: &[Cell], seed: u64) -> String {
    let mut page = String::new();
    let version = env!("CARGO_PKG_VERSION");
    let sums = cells.iter().map(Cell::counts).fold([0; 3], |sum, counts| [0, 1, 2].map(|at| sum[at] + counts[at]));
    let is_good = |cell: &&Cell| cell.verdict().exit_code() == 0;
    let wrong = cells.iter().filter(|cell| matches!(cell.verdict(), Verdict::Wrong(_))).count();
    let headline = match wrong {
        0 => "No wrong file was acknowledged.".to_owned(),
        count => format!("{count} rows acknowledged a wrong file."),
    };
    let write = |page: &mut String, text: std::fmt::Arguments<'_>| {
        page.write_fmt(text).expect("writing into memory cannot fail");
    };
    write(
        &mut page,
        format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<title>landfall: fault matrix</title>\n\
             <style>{STYLE}</style>\n<main>\n<header><h1>landfall <span>fault matrix</span></h1>\n\
             <p class=\"{}\">{headline}</p>\n<dl><div><dt>rows</dt><dd>{} of {} good</dd></div><div><dt>injected</dt>\
             <dd>{}</dd></div><div><dt>detected</dt><dd>{}</dd></div><div><dt>repaired</dt><dd>{}</dd></div>\
             <div><dt>seed</dt><dd>{seed:#x}</dd></div><div><dt>version</dt><dd>{version}</dd></div></dl></header>\n",
            if wrong == 0 { "good" } else { "wrong" },
            cells.iter().filter(is_good).count(),
            cells.len(),
            grouped(sums[0]),
            grouped(sums[1]),
            grouped(sums[2]),
        ),
    );
    page.push_str("<section class=\"map\" aria-label=\"heat map\">\n");
    for layer in Layer::ALL {
        let row: Vec<&Cell> = cells.iter().filter(|cell| cell.row.layer == layer).collect();
        if row.is_empty() {
            continue;
        }
        write(&mut page, format_args!("<h2>{}</h2><ol>\n", layer.title()));
        for cell in row {
            let (number, class) = (cell.row.number, class(&cell.verdict()));
            let heat = heat(cell.counts()[0]);
            let (fault, verdict) = (escaped(cell.row.fault), escaped(&cell.verdict().to_string()));
            write(
                &mut page,
                format_args!(
                    "<li><a class=\"{class} heat{heat}\" href=\"#row{number}\" title=\"{fault}: {verdict}\">{number}</a>\n"
                ),
            );
        }
        page.push_str("</ol>\n");
    }
    page.push_str(
        "</section>\n<p class=\"key\"><i class=\"good heat3\"></i>good (darker: more injected) <i class=\"limit\"></i>\
         a stated limit <i class=\"skipped\"></i>skipped <i class=\"vacuous\"></i>vacuous or harness <i class=\"stuck\"></i>no convergence <i class=\"wrong\"></i>\
         wrong</p>\n<p class=\"columns\">injected / detected / repaired</p>\n<section class=\"rows\">\n",
    );
    cells.iter().for_each(|cell| show(&mut page, cell));
    page.push_str("</section>\n</main>\n</html>\n");
    page
}

/// The place that a cell leads to lies within the details: browsers open them to get there.
fn show(page: &mut String, cell: &Cell) {
    let [injected, detected, repaired] = cell.counts().map(grouped);
    let verdict = cell.verdict();
    let shown = write!(
        page,
        "<details class=\"{class}\"><summary><b>{number}</b><span>{fault}</span>\
         <em>{injected} / {detected} / {repaired}</em></summary>\n<div id=\"row{number}\">\n<p>{verdict}</p>\n<p class=\"never\">must never: {never}</p>\n",
        number = cell.row.number,
        class = class(&verdict),
        fault = escaped(cell.row.fault),
        verdict = escaped(&verdict.to_string()),
        never = escaped(cell.row.never),
    );
    shown.expect("writing into memory cannot fail");
    cell.reports.iter().for_each(|report| show_report(page, report));
    page.push_str("</div></details>\n");
}

fn show_report(page: &mut String, report: &Report) {
    let shown = writeln!(
        page,
        "<article><h3>{fault} <small>{how}</small></h3><p>injected {}, detected {}, repaired {}: {verdict}</p>",
        grouped(report.injected),
        grouped(report.detected),
        grouped(report.repaired),
        fault = escaped(&report.fault),
        how = report.how.word(),
        verdict = escaped(&report.verdict.to_string()),
    );
    shown.expect("writing into memory cannot fail");
    for (name, text) in [("plan", &report.plan), ("again", &report.reproduce)] {
        if !text.is_empty() {
            page.push_str(&format!("<p class=\"line\"><b>{name}</b> <code>{}</code></p>\n", escaped(text)));
        }
    }
    if !report.log.is_empty() {
        page.push_str(&format!("<pre>{}</pre>\n", escaped(&report.log.join("\n"))));
    }
    page.push_str("</article>\n");
}

fn class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Limit(_) => "limit",
        Verdict::Wrong(_) => "wrong",
        Verdict::Stuck(_) => "stuck",
        Verdict::Vacuous | Verdict::Failed(_) => "vacuous",
        Verdict::Skipped(_) => "skipped",
    }
}

/// How much was injected, as a shade from 0 to 4: none, some, ten, a hundred, a thousand and more.
fn heat(injected: u64) -> u32 {
    match injected {
        0 => 0,
        1..10 => 1,
        10..100 => 2,
        100..1000 => 3,
        _ => 4,
    }
}

/// A number with a thin space between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::matrix::rows::ROWS;
    use crate::verdict::How;

    #[test]
    fn the_page_shows_each_row_once_and_nothing_of_a_log_as_markup() {
        let log = vec!["</pre><script>alert(1)</script>".to_owned()];
        let report = Report {
            injected: 12_345,
            verdict: Verdict::Wrong("a < b".into()),
            log,
            ..Report::skipped("x", How::Child, "")
        };
        let cell = |row| Cell { row, reports: vec![report.clone()], took: Duration::ZERO };
        let page = render(&ROWS.map(cell), 7);
        assert!(!page.contains("<script"), "a log is text");
        assert!(page.contains("12\u{202f}345") && page.contains("a &lt; b") && page.contains("0x7"));
        for row in ROWS {
            assert_eq!(page.matches(&format!("id=\"row{}\"", row.number)).count(), 1);
            assert_eq!(page.matches(&format!("href=\"#row{}\"", row.number)).count(), 1);
        }
        assert!(page.contains(&format!("{} rows acknowledged a wrong file.", ROWS.len())));
    }
}
