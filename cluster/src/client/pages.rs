//! Pages of a bucket, gathered from the partitions that its keys lie in.

use enfilade_placement::{BucketId, Stamp, UploadId};

use super::retry::{Client, Transport, unexpected};
use crate::api::Result;
use crate::api::error::MetadataError;
use crate::api::key::RowPrefix;
use crate::api::query::{
    ListEntry, ListPage, ListQuery, UploadsPage, UploadsQuery, Usage, VersionsPage, VersionsQuery,
};
use crate::api::root::{Partition, RootView};
use crate::call::{Answer, Call};

/// The partitions that hold rows from `from` on, before `to`, in order of their ranges.
pub(super) fn covering(view: &RootView, from: &[u8], to: Option<&[u8]>) -> Vec<Partition> {
    let overlaps = |partition: &&Partition| {
        let begins = to.is_none_or(|to| partition.start.as_bytes() < to);
        begins
            && partition
                .end
                .as_ref()
                .is_none_or(|end| from < end.as_bytes())
    };
    let mut partitions: Vec<_> = view.partitions.values().filter(overlaps).cloned().collect();
    partitions.sort_by(|a, b| a.start.cmp(&b.start));
    partitions
}

/// Where to begin: at the prefix, or after the key that the last page ended with.
fn from(bucket: BucketId, prefix: &str, after: Option<&str>) -> RowPrefix {
    RowPrefix::of_keys_from(bucket, after.map_or(prefix, |after| after.max(prefix)))
}

/// A page of one kind of listing, and the question that it answers.
pub(super) trait Paged: Default + Send {
    /// The question.
    type Query: Clone + Send + Sync;

    /// The prefix, and the key after which it begins.
    fn place(query: &Self::Query) -> (&str, Option<&str>);
    /// How many entries are still wanted.
    fn limit(query: &mut Self::Query) -> &mut u32;
    /// The call to one partition.
    fn call(partition: &Partition, bucket: BucketId, query: Self::Query) -> Call;
    /// The page in its answer.
    fn of(answer: Answer) -> Option<Self>;
    /// How many entries it has.
    fn count(&self) -> usize;
    /// Whether the partition has more.
    fn has_next(&self) -> bool;
    /// Moves the question behind the last entry, if there is one.
    fn advance(&self, query: &mut Self::Query);
    /// Adds the entries of the page behind this one, and takes over where it ends.
    fn append(&mut self, page: Self);
    /// Has the next page begin where a question does.
    fn end_before(&mut self, query: Self::Query);
}

impl<T: Transport> Client<T> {
    /// One page of a bucket, over as many partitions as it takes.
    pub(super) async fn pages<P: Paged>(&self, bucket: BucketId, mut query: P::Query) -> Result<P> {
        let mut effort = self.effort();
        let mut gathered = P::default();
        'routes: loop {
            let view = self.view(&mut effort).await?;
            let partitions = {
                let (prefix, after) = P::place(&query);
                let first = from(bucket, prefix, after);
                let end = RowPrefix::of_keys_from(bucket, prefix).after();
                covering(&view, first.as_bytes(), end.as_deref())
            };
            let last = partitions.len().saturating_sub(1);
            for (index, partition) in partitions.iter().enumerate() {
                let call = P::call(partition, bucket, query.clone());
                let page = match self.perform(&call, &mut effort).await {
                    Ok(answer) => P::of(answer).ok_or_else(|| unexpected(&call))?,
                    Err(MetadataError::StaleRoute(why)) => {
                        self.reroute(&mut effort, why).await?;
                        continue 'routes;
                    }
                    Err(error) => return Err(error),
                };
                let limit = P::limit(&mut query);
                *limit = limit.saturating_sub(u32::try_from(page.count()).unwrap_or(u32::MAX));
                page.advance(&mut query);
                gathered.append(page);
                if gathered.has_next() || index == last {
                    return Ok(gathered);
                }
                if *P::limit(&mut query) == 0 {
                    gathered.end_before(query);
                    return Ok(gathered);
                }
            }
            self.reroute(&mut effort, "no partition holds the bucket".to_owned())
                .await?;
        }
    }

    /// What a bucket holds, summed over its partitions.
    pub(super) async fn usages(&self, bucket: BucketId) -> Result<Usage> {
        let first = RowPrefix::of_bucket(bucket);
        let (mut effort, end) = (self.effort(), first.after());
        'routes: loop {
            let view = self.view(&mut effort).await?;
            let mut sum = Usage::default();
            for partition in covering(&view, first.as_bytes(), end.as_deref()) {
                let call = Call::Usage {
                    partition: partition.id,
                    epoch: partition.epoch,
                    bucket,
                };
                match self.perform(&call, &mut effort).await {
                    Ok(Answer::Usage(share)) => sum += share,
                    Ok(_) => return Err(unexpected(&call)),
                    Err(MetadataError::StaleRoute(why)) => {
                        self.reroute(&mut effort, why).await?;
                        continue 'routes;
                    }
                    Err(error) => return Err(error),
                }
            }
            return Ok(sum);
        }
    }
}

impl Paged for ListPage {
    type Query = ListQuery;

    fn place(query: &ListQuery) -> (&str, Option<&str>) {
        (&query.prefix, query.after.as_deref())
    }

    fn limit(query: &mut ListQuery) -> &mut u32 {
        &mut query.limit
    }

    fn call(partition: &Partition, bucket: BucketId, query: ListQuery) -> Call {
        Call::List {
            partition: partition.id,
            epoch: partition.epoch,
            bucket,
            query,
        }
    }

    fn of(answer: Answer) -> Option<Self> {
        match answer {
            Answer::List(page) => Some(page),
            _ => None,
        }
    }

    fn count(&self) -> usize {
        self.entries.len()
    }

    fn has_next(&self) -> bool {
        self.next.is_some()
    }

    fn advance(&self, query: &mut ListQuery) {
        let name = match self.entries.last() {
            Some(ListEntry::Object(object)) => &object.key,
            Some(ListEntry::Prefix(prefix)) => prefix,
            None => return,
        };
        (query.after, query.inside) = (Some(name.clone()), false);
    }

    fn append(&mut self, page: Self) {
        self.entries.extend(page.entries);
        (self.next, self.inside) = (page.next, page.inside);
    }

    fn end_before(&mut self, query: ListQuery) {
        (self.next, self.inside) = (query.after, query.inside);
    }
}

/// Pages of keys and something of each, ordered by both: uploads and versions.
macro_rules! paged_by_key_and {
    ($id:ty, $page:ty, $query:ty, $variant:ident, $entries:ident, $entry:ident => $place:expr) => {
        impl Paged for $page {
            type Query = $query;

            fn place(query: &$query) -> (&str, Option<&str>) {
                let after = query.after.as_ref().map(|(key, _)| key.as_str());
                (&query.prefix, after)
            }

            fn limit(query: &mut $query) -> &mut u32 {
                &mut query.limit
            }

            fn call(partition: &Partition, bucket: BucketId, query: $query) -> Call {
                Call::$variant {
                    partition: partition.id,
                    epoch: partition.epoch,
                    bucket,
                    query,
                }
            }

            fn of(answer: Answer) -> Option<Self> {
                match answer {
                    Answer::$variant(page) => Some(page),
                    _ => None,
                }
            }

            fn count(&self) -> usize {
                self.$entries.len() + self.prefixes.len()
            }

            fn has_next(&self) -> bool {
                self.next.is_some()
            }

            fn advance(&self, query: &mut $query) {
                let last: Option<(String, $id)> = self.$entries.last().map(|$entry| $place);
                let last = last.map(|(key, id)| (key, Some(id)));
                let prefix = self.prefixes.last().map(|prefix| (prefix.clone(), None));
                let furthest = match (last, prefix) {
                    (Some(last), Some(prefix)) if prefix.0 > last.0 => Some(prefix),
                    (last, prefix) => last.or(prefix),
                };
                query.after = furthest.or_else(|| query.after.take());
            }

            fn append(&mut self, page: Self) {
                self.$entries.extend(page.$entries);
                self.prefixes.extend(page.prefixes);
                self.next = page.next;
            }

            fn end_before(&mut self, query: $query) {
                self.next = query.after;
            }
        }
    };
}

paged_by_key_and!(UploadId, UploadsPage, UploadsQuery, Uploads, uploads, upload => {
    (upload.key.clone(), upload.upload)
});
paged_by_key_and!(Stamp, VersionsPage, VersionsQuery, Versions, versions, version => {
    (version.object.key.clone(), version.object.stamp)
});
