//! The data path: bodies to blobs in volumes, and back. Nothing of S3 below here.

pub mod types;

use std::ops::Range;
use std::sync::Arc;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::record::Blob;
use enfilade_cluster::env::Env;
use enfilade_storage_node::api::Nodes;

use crate::settings::PathSettings;
use crate::view::View;
use types::{ReadContent, ReadError, ReadStream, WriteBody, WriteError, Written};

/// Writes and reads the bytes of objects. One a process; shared by all its requests.
pub struct DataPath {
    settings: PathSettings,
    env: Env,
    metadata: Arc<dyn MetadataClient>,
    nodes: Arc<dyn Nodes>,
    view: Arc<View>,
}

impl DataPath {
    /// Puts the parts together.
    pub fn new(
        settings: PathSettings,
        env: Env,
        metadata: Arc<dyn MetadataClient>,
        nodes: Arc<dyn Nodes>,
        view: Arc<View>,
    ) -> Self {
        Self { settings, env, metadata, nodes, view }
    }

    /// Writes a body as one blob.
    ///
    /// `Ok` means that the blob is durable (PROTOCOLS 11); it is named by nothing until the caller
    /// commits a record with it, and is an orphan if it does not. Dropping the future leaves no
    /// more than an orphan.
    ///
    /// # Errors
    /// See [`WriteError`]; in no case is a record affected.
    pub async fn write(&self, body: WriteBody) -> Result<Written, WriteError> {
        let _ = (body, &self.settings, &self.env, &self.metadata, &self.nodes, &self.view);
        Err(WriteError::NoVolume("writing is not built yet".to_owned()))
    }

    /// Opens the bytes `range` of an object; a range past the end is cut to it.
    ///
    /// The first bytes are fetched and verified before this returns, so that an unreadable object
    /// is an error here. Later errors end the stream; a stream that ends without an error gave all.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(
        &self,
        at: ObjectKey,
        content: ReadContent,
        range: Range<u64>,
    ) -> Result<ReadStream, ReadError> {
        let _ = (at, content, range);
        Err(ReadError::Busy)
    }

    /// Notes that a record names the blob, so that the nodes which hold it are told with later
    /// appends and need not ask (PROTOCOLS 19). Best effort.
    pub fn committed(&self, blob: &Blob) {
        let _ = blob;
    }
}
