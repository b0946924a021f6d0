//! The latencies of a sweep as an `HdrHistogram` interval log (V2): its tools read it.
//!
//! Each slice is an interval with its rate as the tag. The values are nanoseconds.

use std::time::UNIX_EPOCH;

use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};
use hdrhistogram::serialization::{V2DeflateSerializeError, V2DeflateSerializer};

use crate::compare::search::Sweep;

/// The log's readers expect that the greatest value is written in milliseconds.
const NANOSECONDS_IN_MILLISECOND: f64 = 1e6;

/// The place of a server's log in the directory of the report.
pub fn file_name(server: &str) -> String {
    format!("hdr/{}.hlog", server.replace(' ', "-"))
}

/// The log of one server's sweep.
pub fn render(server: &str, sweep: &Sweep) -> String {
    let log = log(server, sweep).expect("writing to memory does not fail");
    String::from_utf8(log).expect("the histograms are in Base64")
}

fn log(server: &str, sweep: &Sweep) -> Result<Vec<u8>, IntervalLogWriterError<V2DeflateSerializeError>> {
    let slices = sweep.points.iter().flat_map(|point| point.slices.iter().map(|slice| (point.rate, slice)));
    let mut slices: Vec<_> = slices.collect();
    slices.sort_by_key(|(_, slice)| slice.began);
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment(&format!(
            "[{server}: latency from when a line was due, in nanoseconds; tag: lines a second]"
        ))
        .with_max_value_divisor(NANOSECONDS_IN_MILLISECOND);
    if let Some((_, first)) = slices.first() {
        builder.with_start_time(first.began);
    }
    let mut writer = builder.begin_log_with(&mut log, &mut serializer)?;
    for (rate, slice) in slices {
        let began = slice.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let tag = format!("{rate:.0}");
        let tag = Tag::new(&tag).expect("a number has no comma and no space");
        writer.write_histogram(&slice.latency, began, slice.time, Some(tag))?;
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::compare::search::{Knee, Played, Point, Verdict};
    use crate::support::latency;

    fn slice(began: SystemTime) -> Played {
        let mut histogram = latency::histogram();
        for microseconds in 1..=1000 {
            latency::record(&mut histogram, Duration::from_micros(microseconds));
        }
        Played { began, time: Duration::from_millis(400), latency: histogram, verdict: Verdict::Held }
    }

    #[test]
    fn a_log_can_be_read_back_in_the_order_of_time() {
        let began = SystemTime::now();
        let after = |seconds| slice(began + Duration::from_secs(seconds));
        let point = |rate, slices| Point { rate, slices, is_of_climb: true };
        let points = vec![point(4000.0, vec![after(1), after(2)]), point(8000.0, vec![after(0)])];
        let expected = points[0].slices[0].latency.clone();
        let knee = Knee { rate: Some(8000.0), is_limit_of_load: false };
        let log = render("a server", &Sweep { points, knee, knees: vec![Some(8000.0)] });

        let mut tags = Vec::new();
        for entry in IntervalLogIterator::new(log.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                tags.push(interval.tag().unwrap().as_str().to_owned());
                let encoded = BASE64_STANDARD.decode(interval.encoded_histogram()).unwrap();
                let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &encoded[..]).unwrap();
                assert_eq!(histogram, expected);
                assert_eq!(interval.duration(), Duration::from_millis(400));
                assert!((interval.max() - 1.0).abs() < 0.01, "{} ms", interval.max());
            }
        }
        assert_eq!(tags, ["8000", "4000", "4000"]);
    }
}
