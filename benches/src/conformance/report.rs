//! The documentation's page of results, made from the files that `conformance run` writes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::conformance::{Outcome, Route, Verdict, direct};

/// The results of one backend by one route, by case.
type Results = BTreeMap<String, Outcome>;

/// Everything that was run: by backend, then by route.
pub struct Report {
    backends: BTreeMap<String, BTreeMap<Route, Results>>,
    versions: BTreeMap<String, String>,
}

/// The file of a backend's results by a route.
pub fn file(folder: &Path, backend: &str, route: Route) -> PathBuf {
    folder.join(format!("{backend}-{route}.jsonl"))
}

impl Report {
    /// Reads all results below a folder, and asks the engines for their versions.
    ///
    /// # Errors
    /// Where a file is damaged or an engine that has results is missing.
    pub fn read(folder: &Path) -> anyhow::Result<Report> {
        let (mut backends, mut versions) = (BTreeMap::new(), BTreeMap::new());
        for backend in direct::ENGINES {
            let mut routes = BTreeMap::new();
            for route in Route::ALL {
                let path = file(folder, backend, route);
                if path.is_file() {
                    routes.insert(route, results(&path)?);
                }
            }
            if !routes.is_empty() {
                versions.insert(backend.to_owned(), direct::version(backend)?);
                backends.insert(backend.to_owned(), routes);
            }
        }
        Ok(Report { backends, versions })
    }

    /// The page, in Markdown; `data` names the tests.
    pub fn page(&self, data: &str) -> String {
        let mut page = String::new();
        let versions = self.versions.iter();
        let versions: Vec<String> = versions
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        let _ = write!(page, "{}", introduction(data, &versions.join(", ")));
        page += &self.counts();
        page += &self.not_carriable();
        page += &self.troubles();
        page += &self.differences();
        page += &self.unsupported();
        page
    }

    fn counts(&self) -> String {
        let mut text = "\n## Counts\n\n| backend | route | tests |".to_owned();
        for verdict in Verdict::ALL {
            let _ = write!(text, " {} |", verdict.name());
        }
        text += "\n|---|---|--:|";
        text += &"--:|".repeat(Verdict::ALL.len());
        text.push('\n');
        for (backend, route, results) in self.all() {
            let _ = write!(text, "| {backend} | {route} | {} |", results.len());
            for verdict in Verdict::ALL {
                let count = results
                    .values()
                    .filter(|outcome| outcome.verdict == verdict)
                    .count();
                let _ = write!(text, " {count} |");
            }
            text.push('\n');
        }
        text
    }

    fn not_carriable(&self) -> String {
        let columns: Vec<_> = self.all().collect();
        let mut rows: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (column, (_, _, results)) in columns.iter().enumerate() {
            for outcome in results
                .values()
                .filter(|outcome| outcome.verdict == Verdict::NotCarriable)
            {
                rows.entry(&outcome.reason)
                    .or_insert_with(|| vec![0; columns.len()])[column] += 1;
            }
        }
        let mut text = "\n## Not carriable\n\nThe first dtype or kind of an input or output that a route does not \
            carry. `no tensor` is a sequence, an optional or a map.\n\n| dtype |"
            .to_owned();
        for (backend, route, _) in &columns {
            let _ = write!(text, " {backend} {route} |");
        }
        text += "\n|---|";
        text += &"--:|".repeat(columns.len());
        text.push('\n');
        for (dtype, counts) in rows {
            let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
            let _ = writeln!(text, "| {dtype} | {} |", counts.join(" | "));
        }
        text
    }

    /// What is neither right nor refused.
    fn troubles(&self) -> String {
        let mut text = "\n## Rounded, wrong, crashed, timed out, failed\n".to_owned();
        for (backend, route, results) in self.all() {
            let troubles = results
                .values()
                .filter(|outcome| outcome.verdict.is_trouble());
            let mut groups: BTreeMap<(Verdict, &str), Vec<&str>> = BTreeMap::new();
            for outcome in troubles {
                // Each wrong answer is wrong in its own way.
                let reason = if matches!(outcome.verdict, Verdict::Rounded | Verdict::Wrong) {
                    ""
                } else {
                    outcome.reason.as_str()
                };
                groups
                    .entry((outcome.verdict, reason))
                    .or_default()
                    .push(&outcome.case);
            }
            if groups.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n### {backend}, {route}\n");
            for ((verdict, reason), cases) in groups {
                let _ = writeln!(
                    text,
                    "- {}{}: {}",
                    verdict.name(),
                    explained(reason),
                    listed(&cases)
                );
            }
        }
        text
    }

    /// Where a guest gets something else than the direct harness, or by one ABI something else than by the other.
    fn differences(&self) -> String {
        let mut text = "\n## Where a guest and the engine alone differ\n".to_owned();
        for (backend, routes) in &self.backends {
            let Some(first) = routes.values().next() else {
                continue;
            };
            let mut groups: BTreeMap<(String, &str), Vec<&str>> = BTreeMap::new();
            for case in first.keys() {
                let found: Vec<(Route, &Outcome)> = routes
                    .iter()
                    .filter_map(|(route, results)| Some((*route, results.get(case)?)))
                    .collect();
                if found
                    .iter()
                    .all(|(_, outcome)| outcome.verdict == found[0].1.verdict)
                {
                    continue;
                }
                let verdicts = found
                    .iter()
                    .map(|(route, outcome)| format!("{route} {}", outcome.verdict.name()));
                let verdicts = verdicts.collect::<Vec<_>>().join(", ");
                let reason = found
                    .iter()
                    .find(|(_, outcome)| outcome.verdict != Verdict::Passed);
                let reason = reason.map_or("", |(_, outcome)| match outcome.verdict {
                    Verdict::Rounded | Verdict::Wrong => "",
                    _ => outcome.reason.as_str(),
                });
                groups.entry((verdicts, reason)).or_default().push(case);
            }
            let _ = writeln!(text, "\n### {backend}\n");
            if groups.is_empty() {
                text += "Nowhere.\n";
            }
            for ((verdicts, reason), cases) in groups {
                let _ = writeln!(
                    text,
                    "- {verdicts}{}: {}",
                    explained(reason),
                    listed(&cases)
                );
            }
        }
        text
    }

    fn unsupported(&self) -> String {
        let mut text = "\n## Unsupported, with reasons\n\nAs a guest by the component ABI meets them; the model's \
            own names and numbers are left out.\n"
            .to_owned();
        for (backend, route, results) in self.all() {
            if route != Route::WasmComponent {
                continue;
            }
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for outcome in results
                .values()
                .filter(|outcome| outcome.verdict == Verdict::Unsupported)
            {
                *counts.entry(&outcome.reason).or_default() += 1;
            }
            let mut counts: Vec<_> = counts.into_iter().collect();
            counts.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
            let _ = writeln!(text, "\n### {backend}\n\n| tests | reason |\n|--:|---|");
            for (reason, count) in counts {
                let _ = writeln!(text, "| {count} | {} |", cell(reason));
            }
        }
        text
    }

    fn all(&self) -> impl Iterator<Item = (&str, Route, &Results)> {
        self.backends.iter().flat_map(|(backend, routes)| {
            routes
                .iter()
                .map(|(route, results)| (backend.as_str(), *route, results))
        })
    }
}

impl Verdict {
    /// Whether it is neither right nor refused.
    fn is_trouble(self) -> bool {
        !matches!(
            self,
            Verdict::Passed | Verdict::NotCarriable | Verdict::Unsupported
        )
    }
}

fn introduction(data: &str, versions: &str) -> String {
    format!(
        "<!-- Written by scripts/conformance. -->\n\
        # Conformance\n\n\
        The backend tests of the ONNX project ({data}) on every engine: {versions}, each on the CPU in f32.\n\n\
        - `wasm-component` and `wasm-preview1`: the model is opened by the host; a guest reads the test's inputs, \
        runs the model through wasi-nn by that ABI, and writes its outputs.\n\
        - `direct`: the engine by its own interface, without wasm and without our backends.\n\n\
        All are held against the expected outputs by the rule of ONNX's own runner: dtype and shape equal, floats \
        within 1e-3 of the expected value and 1e-7 (a whole network may say otherwise), everything else equal. Of \
        tests with random operators only dtype and shape are compared. By preview1 a guest learns dtype and shape \
        from the model's description, where the shape may be open: there the values alone are compared. `rounded` fails that rule, but by no more than 1e-5 of the \
        tensor's largest value (of 16-bit floats, two units in the last place), or is one of two tests whose answer a \
        single rounding decides (`benches/src/conformance/judge.rs` says why).\n"
    )
}

fn explained(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(" ({})", cell(reason)),
    }
}

/// How many cases a list names.
const MOST_NAMED: usize = 40;

fn listed(cases: &[&str]) -> String {
    let named: Vec<String> = cases
        .iter()
        .take(MOST_NAMED)
        .map(|case| format!("`{case}`"))
        .collect();
    match cases.len().saturating_sub(MOST_NAMED) {
        0 => format!("{}: {}", cases.len(), named.join(", ")),
        more => format!("{}: {} and {more} more", cases.len(), named.join(", ")),
    }
}

/// A text that stays within a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn results(path: &Path) -> anyhow::Result<Results> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    let outcomes = text.lines().map(serde_json::from_str::<Outcome>);
    let outcomes = outcomes.map(|outcome| outcome.map(|outcome| (outcome.case.clone(), outcome)));
    outcomes
        .collect::<Result<_, _>>()
        .with_context(|| format!("`{}` is damaged", path.display()))
}
