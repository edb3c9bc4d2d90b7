use std::{fmt::Write, fs, path::Path, process::Command};

use anyhow::{Context, Result};
use plotters::{
    chart::{ChartBuilder, LabelAreaPosition},
    coord::combinators::IntoLogRange,
    drawing::IntoDrawingArea,
    element::Circle,
    prelude::SVGBackend,
    series::LineSeries,
    style::{BLACK, BLUE, Color, GREEN, MAGENTA, RED, RGBColor, WHITE},
};
use serde_json::{Value, json};

/// A table of text, as it stands in the report.
pub(crate) struct Table {
    title: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// Lines in a picture, each with its name, over x.
pub(crate) struct Plot {
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
    /// Whether x is to be read by its orders of magnitude.
    pub(crate) log_x: bool,
}

/// What a measure found.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    /// What was done, in a sentence or two.
    pub(crate) how: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
    /// Every figure, for programs.
    pub(crate) data: Value,
}

impl Table {
    pub(crate) fn new(title: &'static str, columns: &[&'static str]) -> Self {
        Self { title, columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        if !self.title.is_empty() {
            text.push_str(&format!("{}:\n\n", self.title));
        }
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        text.push_str(&line(&self.columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>()));
        text.push_str(&line(&vec!["---".to_owned(); self.columns.len()]));
        text.extend(self.rows.iter().map(|row| line(row)));
        text
    }
}

impl Section {
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n", self.name, self.how);
        for table in &self.tables {
            text.push_str(&format!("\n{}", table.markdown()));
        }
        for plot in &self.plots {
            text.push_str(&format!("\n![{}]({}.svg)\n", plot.title, plot.file));
        }
        text
    }
}

/// Writes `results.json`, `results.md` and the plots.
pub(crate) fn write(dir: &Path, sections: &[Section], began: &str, options: &str) -> Result<()> {
    fs::create_dir_all(dir)?;
    let machine = machine();
    let mut text = format!("# Results\n\n`cargo xtask bench {options}`, begun {began}.\n\n");
    for (name, value) in machine.as_object().into_iter().flatten() {
        writeln!(text, "- {name}: {}", value.as_str().unwrap_or_default())?;
    }
    let mut data = json!({"began": began, "options": options, "machine": machine});
    for section in sections {
        write!(text, "\n{}", section.markdown())?;
        data[section.name] = section.data.clone();
        for plot in &section.plots {
            plot.draw(&dir.join(format!("{}.svg", plot.file))).with_context(|| plot.file.to_owned())?;
        }
    }
    fs::write(dir.join("results.md"), text)?;
    Ok(fs::write(dir.join("results.json"), serde_json::to_string_pretty(&data)? + "\n")?)
}

fn machine() -> Value {
    let first_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
    };
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    json!({
        "CPU": format!("{cores} x {}", model.unwrap_or("unknown")),
        "Linux": first_line("uname", &["-r"]),
        "PostgreSQL": first_line("sh", &["-c", "ls -d /usr/lib/postgresql/* | xargs -n1 basename | sort -n | tail -1"]),
        "RabbitMQ": first_line("sh", &["-c", "ls -d /usr/lib/rabbitmq/lib/rabbitmq_server-* | sed 's/.*-//'"]),
        "Tocsin": first_line("git", &["rev-parse", "--short", "HEAD"]),
    })
}

const COLOURS: [RGBColor; 5] = [BLUE, RED, GREEN, MAGENTA, BLACK];

impl Plot {
    fn draw(&self, path: &Path) -> Result<()> {
        let all = || self.lines.iter().flat_map(|(_, points)| points);
        let greatest = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(1.0, f64::max);
        let least_x = all().map(|point| point.0).fold(f64::MAX, f64::min).min(greatest(|point| point.0));
        let (right, top) = (greatest(|point| point.0), greatest(|point| point.1) * 1.1);
        let root = SVGBackend::new(path, (640, 360)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut builder = ChartBuilder::on(&root);
        builder.caption(self.title, ("sans-serif", 16)).margin(10);
        builder.set_label_area_size(LabelAreaPosition::Left, 60).set_label_area_size(LabelAreaPosition::Bottom, 40);
        // The two kinds of axes are different types.
        macro_rules! draw_on {
            ($x:expr) => {{
                let mut chart = builder.build_cartesian_2d($x, 0.0..top)?;
                chart.configure_mesh().x_desc(self.x).y_desc(self.y).draw()?;
                for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
                    let colour = *colour;
                    chart
                        .draw_series(LineSeries::new(points.iter().copied(), colour))?
                        .label(name.as_str())
                        .legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
                    chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
                }
                chart.configure_series_labels().background_style(WHITE.filled()).border_style(BLACK).draw()?;
            }};
        }
        if self.log_x {
            draw_on!((least_x.max(1.0)..right.max(2.0)).log_scale());
        } else {
            draw_on!(0.0..right);
        }
        root.present()?;
        Ok(())
    }
}
