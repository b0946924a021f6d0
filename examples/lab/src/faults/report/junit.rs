//! The report as `JUnit` XML, which CI systems read: a test suite for each server.

use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::faults::case::Verdict;
use crate::faults::runner::Results;

/// Writes faults.xml.
pub fn write(results: &Results, directory: &Path) -> Result<(), String> {
    let mut report = Report::new("faults");
    report.set_time(results.took);
    for (index, server) in results.servers.iter().enumerate() {
        let mut suite = TestSuite::new(&server.name);
        for row in &results.rows {
            let finding = &row.findings[index];
            let mut status = match finding.verdict {
                Verdict::Passes => TestCaseStatus::success(),
                Verdict::Fails => TestCaseStatus::non_success(NonSuccessKind::Failure),
                Verdict::NotApplicable => TestCaseStatus::skipped(),
                Verdict::CouldNotRun => TestCaseStatus::non_success(NonSuccessKind::Error),
            };
            if let Some(failure) = &finding.failure {
                status.set_message(format!("expected: {}; came: {}", failure.expected, failure.came));
                status.set_description(row.case.case.server);
            } else if let Some(why) = &finding.why {
                status.set_message(why.as_str());
            }
            let mut case = TestCase::new(row.case.case.name, status);
            case.set_classname(row.case.group.name);
            case.set_time(Duration::from_secs_f64(finding.seconds));
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    let text = report.to_string().map_err(|error| error.to_string())?;
    super::write(&directory.join("faults.xml"), text)
}
