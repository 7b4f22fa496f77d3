//! Tables as Markdown, and numbers as they stand in them.

/// Heads and rows; the first column is words, the others are figures.
#[derive(Clone, Debug, Default)]
pub struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these heads and no row yet.
    pub fn new(heads: &[&str]) -> Table {
        Table { heads: heads.iter().map(|head| (*head).to_owned()).collect(), rows: Vec::new() }
    }

    /// One row; what it lacks at the end stays empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.heads.len(), String::new());
        self.rows.push(cells);
    }

    /// As text.
    pub fn markdown(&self) -> String {
        let columns = 0..self.heads.len();
        let widths: Vec<usize> = columns
            .map(|column| {
                let cells = std::iter::once(&self.heads).chain(&self.rows).map(|row| escaped(&row[column]));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
            })
            .collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                let cell = escaped(cell);
                if column == 0 { format!(" {cell:<width$} |") } else { format!(" {cell:>width$} |") }
            });
            format!("|{}\n", cells.collect::<String>())
        };
        let rule = widths.iter().enumerate().map(|(column, width)| {
            if column == 0 { format!(" {} |", "-".repeat(*width)) } else { format!(" {}: |", "-".repeat(width - 1)) }
        });
        let body: String = self.rows.iter().map(line).collect();
        format!("{}|{}\n{body}", line(&self.heads), rule.collect::<String>())
    }
}

/// A bar inside a cell would end it.
fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|").replace('\n', " ")
}

/// A figure with as many digits as it deserves.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A figure that may be missing.
pub fn figure_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), figure)
}

/// Bytes as megabytes.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_with_its_figures_to_the_right() {
        let mut table = Table::new(&["tool", "s", "tree"]);
        table.row(["a|b".to_owned(), figure(1.0)]);
        table.row(["c".to_owned(), figure(1234.5), "equal".to_owned()]);
        let expected =
            "| tool |    s |  tree |\n| ---- | ---: | ----: |\n| a\\|b | 1.00 |       |\n| c    | 1234 | equal |\n";
        assert_eq!(table.markdown(), expected);
    }

    #[test]
    fn figures_keep_three_digits() {
        assert_eq!([0.0, 1.234, 12.34, 123.4].map(figure), ["0.00", "1.23", "12.3", "123"]);
        assert_eq!(figure_or_dash(None), "-");
        assert_eq!(megabytes(2_147_483_648), "2147");
    }
}
