//! Pages of a bucket, gathered from the partitions that its keys lie in.

use enfilade_placement::BucketId;

use super::retry::{Client, Transport, unexpected};
use crate::api::Result;
use crate::api::error::MetadataError;
use crate::api::key::RowPrefix;
use crate::api::query::{ListEntry, ListPage, ListQuery, UploadsPage, UploadsQuery};
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

impl<T: Transport> Client<T> {
    pub(super) async fn list_pages(
        &self,
        bucket: BucketId,
        mut query: ListQuery,
    ) -> Result<ListPage> {
        let mut effort = self.effort();
        let mut gathered = ListPage::default();
        'routes: loop {
            let view = self.view(&mut effort).await?;
            let first = from(bucket, &query.prefix, query.after.as_deref());
            let end = RowPrefix::of_keys_from(bucket, &query.prefix).after();
            let partitions = covering(&view, first.as_bytes(), end.as_deref());
            let last = partitions.len().saturating_sub(1);
            for (index, partition) in partitions.iter().enumerate() {
                let call = Call::List {
                    partition: partition.id,
                    bucket,
                    query: query.clone(),
                };
                let page = match self.perform(&call, &mut effort).await {
                    Ok(Answer::List(page)) => page,
                    Ok(_) => return Err(unexpected(&call)),
                    Err(MetadataError::StaleRoute(why)) => {
                        self.reroute(&mut effort, why).await?;
                        continue 'routes;
                    }
                    Err(error) => return Err(error),
                };
                let taken = u32::try_from(page.entries.len()).unwrap_or(u32::MAX);
                query.limit = query.limit.saturating_sub(taken);
                gathered.entries.extend(page.entries);
                gathered.next = page.next;
                if gathered.next.is_some() || index == last {
                    return Ok(gathered);
                }
                if let Some(entry) = gathered.entries.last() {
                    query.after = Some(name(entry).to_owned());
                }
                if query.limit == 0 {
                    gathered.next = query.after;
                    return Ok(gathered);
                }
            }
            self.reroute(&mut effort, "no partition holds the bucket".to_owned())
                .await?;
        }
    }

    pub(super) async fn upload_pages(
        &self,
        bucket: BucketId,
        mut query: UploadsQuery,
    ) -> Result<UploadsPage> {
        let mut effort = self.effort();
        let mut gathered = UploadsPage::default();
        'routes: loop {
            let view = self.view(&mut effort).await?;
            let after = query.after.as_ref().map(|(key, _)| key.as_str());
            let first = from(bucket, &query.prefix, after);
            let end = RowPrefix::of_keys_from(bucket, &query.prefix).after();
            let partitions = covering(&view, first.as_bytes(), end.as_deref());
            let last = partitions.len().saturating_sub(1);
            for (index, partition) in partitions.iter().enumerate() {
                let call = Call::Uploads {
                    partition: partition.id,
                    bucket,
                    query: query.clone(),
                };
                let page = match self.perform(&call, &mut effort).await {
                    Ok(Answer::Uploads(page)) => page,
                    Ok(_) => return Err(unexpected(&call)),
                    Err(MetadataError::StaleRoute(why)) => {
                        self.reroute(&mut effort, why).await?;
                        continue 'routes;
                    }
                    Err(error) => return Err(error),
                };
                let taken = page.uploads.len() + page.prefixes.len();
                let taken = u32::try_from(taken).unwrap_or(u32::MAX);
                query.limit = query.limit.saturating_sub(taken);
                query.after = furthest(&page).or(query.after);
                gathered.uploads.extend(page.uploads);
                gathered.prefixes.extend(page.prefixes);
                gathered.next = page.next;
                if gathered.next.is_some() || index == last {
                    return Ok(gathered);
                }
                if query.limit == 0 {
                    gathered.next = query.after;
                    return Ok(gathered);
                }
            }
            self.reroute(&mut effort, "no partition holds the bucket".to_owned())
                .await?;
        }
    }
}

fn name(entry: &ListEntry) -> &str {
    match entry {
        ListEntry::Object(object) => &object.key,
        ListEntry::Prefix(prefix) => prefix,
    }
}

/// The last upload or folded prefix of a page, as where the next one begins.
fn furthest(page: &UploadsPage) -> Option<(String, Option<enfilade_placement::UploadId>)> {
    let upload = page.uploads.last().map(|u| (u.key.clone(), Some(u.upload)));
    let prefix = page.prefixes.last().map(|prefix| (prefix.clone(), None));
    match (upload, prefix) {
        (Some(upload), Some(prefix)) if prefix.0 > upload.0 => Some(prefix),
        (Some(upload), _) => Some(upload),
        (None, prefix) => prefix,
    }
}
