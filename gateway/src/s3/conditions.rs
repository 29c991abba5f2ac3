//! Conditions of requests: those on reads are decided here, those on writes inside apply.

use enfilade_cluster::api::command::{Conditions, ETags};
use s3s::dto::{ETag, ETagCondition, Timestamp};
use time::OffsetDateTime;

/// The conditions of a read, or on the source of a copy.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadConditions {
    /// The ETag must be this.
    pub(crate) if_match: Option<ETagCondition>,
    /// The ETag must not be this.
    pub(crate) if_none_match: Option<ETagCondition>,
    /// Changed after this.
    pub(crate) if_modified_since: Option<Timestamp>,
    /// Not changed after this.
    pub(crate) if_unmodified_since: Option<Timestamp>,
}

/// What conditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All hold.
    Pass,
    /// The client has it already (304; 412 for the source of a copy).
    NotModified,
    /// One does not hold (412).
    Failed,
}

impl ReadConditions {
    /// Decides, in the order of S3: `If-Match` that holds overrides `If-Unmodified-Since`, and
    /// `If-None-Match` overrides `If-Modified-Since`.
    pub(crate) fn decide(&self, etag: &str, modified_ms: u64) -> Verdict {
        let modified = modified_ms / 1000;
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) if !names(condition, etag) => return Verdict::Failed,
            (None, Some(since)) if seconds(since) < i128::from(modified) => return Verdict::Failed,
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) if names(condition, etag) => Verdict::NotModified,
            (None, Some(since)) if seconds(since) >= i128::from(modified) => Verdict::NotModified,
            _ => Verdict::Pass,
        }
    }
}

/// The conditions of a write, for the state machine.
pub(crate) fn on_write(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> Conditions {
    Conditions {
        if_match: if_match.map(etags),
        if_none_match: if_none_match.map(etags),
    }
}

fn etags(condition: ETagCondition) -> ETags {
    match condition {
        ETagCondition::Any => ETags::Any,
        ETagCondition::ETag(tag) => ETags::These(split(tag.value())),
    }
}

fn names(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(tag) => split(tag.value()).iter().any(|one| one == etag),
    }
}

/// A list of ETags arrives as one value, outer quotes removed: `a", "b`.
fn split(value: &str) -> Vec<String> {
    let clean = |one: &str| {
        let one = one.trim();
        one.strip_prefix("W/")
            .unwrap_or(one)
            .trim_matches('"')
            .to_owned()
    };
    match value.contains('"') {
        true => value.split(',').map(clean).collect(),
        false => vec![value.to_owned()],
    }
}

fn seconds(time: &Timestamp) -> i128 {
    i128::from(OffsetDateTime::from(time.clone()).unix_timestamp())
}

/// A moment in milliseconds of Unix time, as S3 tells it.
pub(crate) fn timestamp(ms: u64) -> Timestamp {
    let nanoseconds = i128::from(ms) * 1_000_000;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds);
    moment.unwrap_or(OffsetDateTime::UNIX_EPOCH).into()
}

/// An ETag as S3 tells it, from one without quotes.
pub(crate) fn strong(etag: impl Into<String>) -> ETag {
    ETag::Strong(etag.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "4fcec74691ff529f6d016ec3629ff11b";
    const MODIFIED_MS: u64 = 1_700_000_000_700;

    fn tag(text: &str) -> Option<ETagCondition> {
        Some(text.parse().unwrap())
    }

    fn at(seconds: u64) -> Option<Timestamp> {
        Some(timestamp(seconds * 1000))
    }

    fn decide(conditions: ReadConditions) -> Verdict {
        conditions.decide(ETAG, MODIFIED_MS)
    }

    #[test]
    fn a_matching_etag_overrides_a_date_that_fails() {
        let both = |text| ReadConditions {
            if_match: tag(text),
            if_unmodified_since: at(1),
            ..Default::default()
        };
        assert_eq!(decide(both(ETAG)), Verdict::Pass);
        assert_eq!(decide(both("\"other\"")), Verdict::Failed);
        let date = ReadConditions {
            if_unmodified_since: at(1),
            ..Default::default()
        };
        assert_eq!(decide(date), Verdict::Failed);
    }

    #[test]
    fn a_known_etag_is_not_modified_whatever_the_date() {
        let both = |text, since| ReadConditions {
            if_none_match: tag(text),
            if_modified_since: at(since),
            ..Default::default()
        };
        assert_eq!(decide(both(ETAG, 1)), Verdict::NotModified);
        assert_eq!(decide(both("*", 1)), Verdict::NotModified);
        assert_eq!(decide(both("\"other\"", 1_800_000_000)), Verdict::Pass);
    }

    #[test]
    fn dates_compare_in_whole_seconds() {
        let since = |seconds| ReadConditions {
            if_modified_since: at(seconds),
            ..Default::default()
        };
        assert_eq!(decide(since(1_700_000_000)), Verdict::NotModified);
        assert_eq!(decide(since(1_699_999_999)), Verdict::Pass);
        let until = ReadConditions {
            if_unmodified_since: at(1_700_000_000),
            ..Default::default()
        };
        assert_eq!(decide(until), Verdict::Pass);
    }

    #[test]
    fn a_list_of_etags_matches_when_one_does() {
        let list = format!("\"other\", W/\"{ETAG}\"");
        let conditions = ReadConditions {
            if_none_match: tag(&list),
            ..Default::default()
        };
        assert_eq!(decide(conditions), Verdict::NotModified);
        let Some(ETags::These(tags)) = on_write(tag(&list), None).if_match else {
            panic!()
        };
        assert_eq!(tags, ["other", ETAG]);
    }
}
