//! Committed extents in the admin API.

use enfilade_placement::{Stamp, UploadId};
use serde::{Deserialize, Serialize};

/// `POST /admin/v1/buckets/NAME/extents`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    /// Where the page begins: what the page before said.
    #[serde(default)]
    pub(crate) after: Option<Cursor>,
}

/// A place in a bucket: all versions, then the parts of open uploads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cursor {
    /// After this version of this key; none: at the beginning.
    Versions(Option<(String, Option<Stamp>)>),
    /// After this upload of this key.
    Uploads(Option<(String, Option<UploadId>)>),
}

impl Default for Cursor {
    fn default() -> Self {
        Self::Versions(None)
    }
}

/// Some of the blobs that a bucket has in volumes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Page {
    /// The blobs; there may be none although there are more.
    pub(crate) blobs: Vec<BlobPlace>,
    /// Where the next page begins; none at the end.
    pub(crate) next: Option<Cursor>,
}

/// A blob that is in volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobPlace {
    /// The key whose object, version or upload it belongs to.
    pub(crate) key: String,
    /// Its id: 32 hexadecimal digits.
    pub(crate) blob: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// Data fragments of a stripe.
    pub(crate) k: usize,
    /// Parity fragments of a stripe.
    pub(crate) m: usize,
    /// Bytes of a fragment of a full stripe.
    pub(crate) unit: u32,
    /// Whether it is in the shortened code: one data fragment a stripe is stored.
    pub(crate) shortened: bool,
    /// Its stripes, in order.
    pub(crate) extents: Vec<ExtentPlace>,
}

/// Consecutive stripes of a blob in one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExtentPlace {
    /// The volume.
    pub(crate) volume: u64,
    /// The first stripe.
    pub(crate) first_stripe: u32,
    /// How many.
    pub(crate) stripes: u32,
}
