//! What the checks found, for people and as JSON.

use serde::Serialize;

use crate::cli::support::page::{Cell, table};

/// How it is with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Well.
    Ok,
    /// It works, or is about to, but is worth a look.
    Warn,
    /// It must be mended.
    Fail,
}

/// What was found about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) check: &'static str,
    pub(super) detail: String,
    /// What to do, where something is to be done.
    pub(super) advice: Option<String>,
}

/// All findings so far.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) findings: Vec<Finding>,
}

impl Report {
    /// What is well, or says itself what to do.
    pub(super) fn tell(&mut self, level: Level, check: &'static str, detail: impl Into<String>) {
        self.findings.push(Finding { level, check, detail: detail.into(), advice: None });
    }

    pub(super) fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.tell(Level::Ok, check, detail);
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

    pub(super) fn is_well(&self) -> bool {
        self.count(Level::Fail) == 0
    }

    pub(super) fn verdict(&self) -> String {
        let things = |count: usize| if count == 1 { "1 thing".to_owned() } else { format!("{count} things") };
        match (self.count(Level::Fail), self.count(Level::Warn)) {
            (0, 0) => "all is well".to_owned(),
            (0, warnings) => format!("nothing is in the way; {} to look at", things(warnings)),
            (failures, 0) => format!("{} to mend", things(failures)),
            (failures, warnings) => format!("{} to mend, {} to look at", things(failures), things(warnings)),
        }
    }

    pub(super) fn for_people(&self) -> String {
        let row = |finding: &Finding| {
            let level = match finding.level {
                Level::Ok => Cell::good("ok"),
                Level::Warn => Cell::odd("warn"),
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
            "ok": self.is_well(),
            "verdict": self.verdict(),
            "findings": self.findings,
        });
        format!("{whole}\n")
    }
}
