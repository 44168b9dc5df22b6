//! The findings of the checks, as text and as JSON.

use serde::Serialize;

use crate::cli::support::page::{Cell, counted, table};

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// The daemon works, or will, but this needs attention.
    Warn,
    /// The daemon does not work until this is fixed.
    Fail,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) check: &'static str,
    pub(super) detail: String,
    /// What to do, if `detail` does not include it.
    pub(super) advice: Option<String>,
}

/// The findings so far.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) findings: Vec<Finding>,
}

impl Report {
    /// Adds a finding without advice.
    pub(super) fn add(&mut self, level: Level, check: &'static str, detail: impl Into<String>) {
        self.findings.push(Finding { level, check, detail: detail.into(), advice: None });
    }

    pub(super) fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(Level::Ok, check, detail);
    }

    pub(super) fn warn(&mut self, check: &'static str, detail: impl Into<String>, advice: impl Into<String>) {
        let advice = Some(advice.into());
        self.findings.push(Finding { level: Level::Warn, check, detail: detail.into(), advice });
    }

    pub(super) fn fail(&mut self, check: &'static str, detail: impl Into<String>, advice: impl Into<String>) {
        let advice = Some(advice.into());
        self.findings.push(Finding { level: Level::Fail, check, detail: detail.into(), advice });
    }

    pub(super) fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    pub(super) fn has_problem(&self, check: &str) -> bool {
        self.findings.iter().any(|finding| finding.check == check && finding.level != Level::Ok)
    }

    pub(super) fn has_no_errors(&self) -> bool {
        self.count(Level::Fail) == 0
    }

    pub(super) fn verdict(&self) -> String {
        match (self.count(Level::Fail), self.count(Level::Warn)) {
            (0, 0) => "no problems".to_owned(),
            (0, warnings) => format!("no errors, {}", counted(warnings, "warning", "warnings")),
            (errors, 0) => counted(errors, "error", "errors"),
            (errors, warnings) => {
                format!("{}, {}", counted(errors, "error", "errors"), counted(warnings, "warning", "warnings"))
            }
        }
    }

    pub(super) fn for_people(&self) -> String {
        let row = |finding: &Finding| {
            let level = match finding.level {
                Level::Ok => Cell::good("ok"),
                Level::Warn => Cell::warning("warn"),
                Level::Fail => Cell::bad("FAIL"),
            };
            let text = match &finding.advice {
                Some(advice) => format!("{}; {advice}", finding.detail),
                None => finding.detail.clone(),
            };
            vec![level, Cell::head(finding.check), Cell::from(text)]
        };
        let rows: Vec<_> = self.findings.iter().map(row).collect();
        format!("{}\nverdict: {}\n", table(&rows), self.verdict())
    }

    pub(super) fn as_json(&self) -> String {
        let whole = serde_json::json!({
            "ok": self.has_no_errors(),
            "verdict": self.verdict(),
            "findings": self.findings,
        });
        format!("{whole}\n")
    }
}
