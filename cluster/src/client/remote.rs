//! The client of a process without replicas: all calls by gRPC.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use enfilade_placement::{EnclosureId, PartitionId};
use tonic::{Code, ConnectError, Status};

use super::in_process::lost;
use super::retry::{Client, ClientSettings, Transport};
use crate::api::Result;
use crate::api::error::MetadataError;
use crate::api::root::RootView;
use crate::call::{Answer, Call};
use crate::env::Env;
use crate::wire::{Lane, Peers, open};

/// A client that reaches all replicas over gRPC.
pub type Remote = Client<Grpc>;

/// Calls replicas over gRPC.
pub struct Grpc {
    peers: Arc<Peers>,
}

/// A client of the replicas that `peers` knows; it learns of others from the root state.
pub fn client(peers: Arc<Peers>, env: Env, settings: ClientSettings) -> Remote {
    Client::new(Grpc { peers }, env, settings)
}

#[async_trait]
impl Transport for Grpc {
    fn replicas(&self) -> Vec<EnclosureId> {
        self.peers.known()
    }

    async fn call(&self, replica: EnclosureId, call: &Call, limit: Duration) -> Result<Answer> {
        call_replica(&self.peers, replica, call, limit).await
    }

    fn learn(&self, view: &RootView) {
        learn(&self.peers, view);
    }
}

/// Asks one replica, once.
pub(crate) async fn call_replica(
    peers: &Peers,
    replica: EnclosureId,
    call: &Call,
    limit: Duration,
) -> Result<Answer> {
    let mut client = peers
        .client(replica, Lane::Calls)
        .map_err(MetadataError::Unavailable)?;
    let group = call.group().unwrap_or(PartitionId::ROOT);
    let identity = peers.identity();
    let mut request = identity.request(identity.seal(group, call));
    // The replica is told to give up, too.
    request.set_timeout(limit);
    let answer = match tokio::time::timeout(limit, client.call(request)).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return Err(error(call, &status)),
        Err(_) => return Err(lost(call, "no answer in time")),
    };
    identity
        .check(&answer)
        .map_err(|status| MetadataError::Forbidden(status.message().to_owned()))?;
    open::<Result<Answer>>(&answer)
        .map_err(|status| MetadataError::Undecodable(status.message().to_owned()))?
}

/// Notes where replicas are.
pub(super) fn learn(peers: &Peers, view: &RootView) {
    for enclosure in view.topology.enclosures.values() {
        peers.learn(enclosure.id, &enclosure.meta_address);
    }
}

/// What a failed call means.
fn error(call: &Call, status: &Status) -> MetadataError {
    let text = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => MetadataError::Forbidden(text),
        Code::InvalidArgument => MetadataError::Invalid(text),
        _ if never_sent(status) => MetadataError::Unavailable(text),
        _ => lost(call, &text),
    }
}

/// Whether there was no connection to send the call on.
fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
