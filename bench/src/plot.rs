//! Charts as SVG, written by hand: bars in groups, or lines over the same groups. Values grow from zero.

use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 40.0;

/// Distinct on white, and in the eyes of most people who see few colours.
const COLOURS: [&str; 10] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#555555", "#999933", "#882255"];

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Beside each other, in each group.
    Bars,
    /// From group to group.
    Lines,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// What the values count.
    pub unit: String,
    /// How they are drawn.
    pub shape: Shape,
    /// Along the bottom.
    pub groups: Vec<String>,
    /// A name, and a value for each group; none where there is nothing to show.
    pub series: Vec<(String, Vec<Option<f64>>)>,
}

impl Chart {
    /// The whole file.
    pub fn svg(&self) -> String {
        let values = self.series.iter().flat_map(|(_, values)| values.iter().flatten().copied());
        let step = step(values.fold(0.0, f64::max));
        let top = self
            .series
            .iter()
            .flat_map(|(_, values)| values.iter().flatten())
            .fold(step, |top, value| top.max((value / step).ceil() * step));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        text(&mut out, (LEFT, 22.0), "start", &format!("{} ({})", self.title, self.unit));
        self.axes(&mut out, step, top);
        for (index, (name, values)) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            match self.shape {
                Shape::Bars => self.bars(&mut out, index, values, top),
                Shape::Lines => self.line(&mut out, colour, values, top),
            }
            let y = TOP + 18.0 * index as f64;
            let x = WIDTH - RIGHT + 14.0;
            let _ = writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
            text(&mut out, (x + 18.0, y + 10.0), "start", name);
        }
        out.push_str("</svg>\n");
        out
    }

    fn axes(&self, out: &mut String, step: f64, top: f64) {
        let mut value = 0.0;
        while value <= top + step / 2.0 {
            let y = height_of(value, top);
            let right = WIDTH - RIGHT;
            let _ = writeln!(out, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>");
            text(out, (LEFT - 6.0, y + 4.0), "end", &trimmed(value));
            value += step;
        }
        for (index, group) in self.groups.iter().enumerate() {
            text(out, (self.centre(index), HEIGHT - BOTTOM + 18.0), "middle", group);
        }
    }

    fn group_width(&self) -> f64 {
        (WIDTH - LEFT - RIGHT) / self.groups.len().max(1) as f64
    }

    fn centre(&self, group: usize) -> f64 {
        LEFT + self.group_width() * (group as f64 + 0.5)
    }

    fn bars(&self, out: &mut String, series: usize, values: &[Option<f64>], top: f64) {
        let room = self.group_width() * 0.86;
        let width = room / self.series.len() as f64;
        for (group, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            let x = self.centre(group) - room / 2.0 + width * series as f64;
            let (y, colour) = (height_of(*value, top), COLOURS[series % COLOURS.len()]);
            let (width, height) = (width * 0.92, HEIGHT - BOTTOM - y);
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
            );
            text(out, (x + width / 2.0, y - 3.0), "middle", &trimmed(*value));
        }
    }

    fn line(&self, out: &mut String, colour: &str, values: &[Option<f64>], top: f64) {
        let places = values.iter().enumerate().filter_map(|(group, value)| Some((self.centre(group), (*value)?)));
        let places: Vec<(f64, f64)> = places.map(|(x, value)| (x, height_of(value, top))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        if !path.is_empty() {
            let path = path.join("L");
            let _ = writeln!(out, "<path d=\"M{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        }
        for (x, y) in places {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
    }
}

fn height_of(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top
}

/// 1, 2 or 5 times a power of ten, so that about five of them reach the greatest value.
fn step(greatest: f64) -> f64 {
    if greatest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf((greatest / 5.0).log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| greatest / (times * power) <= 6.0);
    times.unwrap_or(10.0) * power
}

/// Three digits, without zeros at the end.
fn trimmed(value: f64) -> String {
    let text = if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(shape: Shape) -> Chart {
        let series =
            vec![("a < b & c".to_owned(), vec![Some(1.0), None]), ("d".to_owned(), vec![Some(2.5), Some(0.0)])];
        let groups = vec!["big".to_owned(), "small".to_owned()];
        Chart { title: "time".to_owned(), unit: "s".to_owned(), shape, groups, series }
    }

    #[test]
    fn each_value_has_one_bar_and_each_series_a_name() {
        let svg = chart(Shape::Bars).svg();
        // One for the background, one for each of the two names, one for each of the three values.
        assert_eq!(svg.matches("<rect").count(), 1 + 2 + 3);
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains(">small<") && svg.contains("time (s)"));
        assert!(svg.starts_with("<svg xmlns") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn each_value_has_one_point_and_each_series_a_line() {
        let svg = chart(Shape::Lines).svg();
        assert_eq!((svg.matches("<circle").count(), svg.matches("fill=\"none\"").count()), (3, 2));
    }

    #[test]
    fn the_greatest_value_reaches_no_further_than_the_top() {
        assert_eq!(step(0.0), 1.0);
        assert_eq!([0.9, 4.0, 9.7, 60.0, 1000.0].map(step), [0.2, 1.0, 2.0, 10.0, 200.0]);
        assert!((height_of(10.0, 10.0) - TOP).abs() < 1e-9 && (height_of(0.0, 10.0) - (HEIGHT - BOTTOM)).abs() < 1e-9);
    }

    #[test]
    fn an_empty_chart_is_still_a_file() {
        let chart = Chart { groups: vec![], series: vec![], ..chart(Shape::Lines) };
        assert!(chart.svg().ends_with("</svg>\n"));
    }
}
