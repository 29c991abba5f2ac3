//! What goes over the wire: envelopes, the credential in front of them, and channels to carry them.
//! The only place that names generated types.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::{ClusterId, EnclosureId, Incarnation, PartitionId};
use serde::{Serialize, de::DeserializeOwned};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::api::encoding::{decode, encode};

/// The generated service.
#[expect(
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated"
)]
pub(crate) mod pb {
    tonic::include_proto!("enfilade.cluster.v1");
}

pub(crate) use pb::Envelope;
pub(crate) use pb::metadata_client::MetadataClient as GrpcClient;
pub(crate) use pb::metadata_server::{Metadata as GrpcService, MetadataServer as GrpcServer};

/// The largest message: a batch of entries of [`APPEND_BYTES_MAX`] and one large command more, or
/// a part of a snapshot.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Bytes of entries in one message, about; one entry may be larger.
pub(crate) const APPEND_BYTES_MAX: usize = 4 << 20;

/// What the processes of a cluster know each other by.
#[derive(Clone)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its life.
    pub incarnation: Incarnation,
    credential: MetadataValue<Ascii>,
}

/// The cluster's credential is empty, or not printable ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster credential must be printable ASCII, and not empty")]
pub struct CredentialError;

impl Identity {
    /// The identity of a cluster, with its credential.
    ///
    /// # Errors
    /// When the credential is empty or cannot be a header.
    pub fn new(
        cluster: ClusterId,
        incarnation: Incarnation,
        credential: &str,
    ) -> Result<Self, CredentialError> {
        if credential.is_empty() {
            return Err(CredentialError);
        }
        let header = format!("Bearer {credential}").parse();
        let mut credential: MetadataValue<Ascii> = header.map_err(|_| CredentialError)?;
        credential.set_sensitive(true);
        Ok(Self {
            cluster,
            incarnation,
            credential,
        })
    }

    /// Puts a value into an envelope of this cluster.
    pub(crate) fn seal<T: Serialize>(&self, group: PartitionId, value: &T) -> Envelope {
        Envelope {
            cluster: Bytes::copy_from_slice(&self.cluster.to_bytes()),
            incarnation: self.incarnation.get(),
            group: group.get(),
            body: Bytes::from(encode(value)),
        }
    }

    /// A request with the credential.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.credential.clone());
        request
    }

    /// Checks the credential of a request, in time that does not depend on where it differs.
    pub(crate) fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let given = metadata
            .get("authorization")
            .map_or(&[][..], |value| value.as_encoded_bytes());
        let expected = self.credential.as_encoded_bytes();
        let longest = given.len().max(expected.len());
        let at = |bytes: &[u8], index: usize| bytes.get(index).copied().unwrap_or(0);
        let differs = (0..longest).fold(given.len() ^ expected.len(), |differs, index| {
            differs | usize::from(at(given, index) ^ at(expected, index))
        });
        if std::hint::black_box(differs) == 0 {
            Ok(())
        } else {
            Err(Status::unauthenticated(
                "the cluster credential is missing or wrong",
            ))
        }
    }

    /// Checks that an envelope is of this cluster and incarnation.
    pub(crate) fn check(&self, envelope: &Envelope) -> Result<(), Status> {
        if envelope.cluster != self.cluster.to_bytes()[..] {
            return Err(Status::permission_denied(
                "the message is of another cluster",
            ));
        }
        if envelope.incarnation != self.incarnation.get() {
            let (theirs, ours) = (envelope.incarnation, self.incarnation);
            let text = format!("the message is of incarnation {theirs}, not {ours}");
            return Err(Status::permission_denied(text));
        }
        Ok(())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Identity({}, incarnation {})",
            self.cluster, self.incarnation
        )
    }
}

/// Takes the value out of an envelope.
pub(crate) fn open<T: DeserializeOwned>(envelope: &Envelope) -> Result<T, Status> {
    decode(&envelope.body).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// What a channel is for. Each has a connection of its own, so that bulk does not delay what keeps
/// a leader in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Calls of clients.
    Calls,
    /// Log entries and votes.
    Entries,
    /// Heartbeats of leaders.
    Heartbeats,
    /// Snapshots.
    Snapshots,
}

/// Makes a channel to an address, without connecting yet.
pub type Dial = Arc<dyn Fn(&str) -> Result<Channel, tonic::transport::Error> + Send + Sync>;

/// Channels over TCP.
pub fn dial_tcp() -> Dial {
    Arc::new(|address| {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(1))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(2 << 20)
            .initial_connection_window_size(4 << 20);
        Ok(endpoint.connect_lazy())
    })
}

/// The other processes: their addresses, and channels to them.
pub struct Peers {
    identity: Identity,
    dial: Dial,
    addresses: Mutex<BTreeMap<EnclosureId, String>>,
    channels: Mutex<BTreeMap<(EnclosureId, Lane), (String, Channel)>>,
}

impl Peers {
    /// Peers at these addresses (`host:port`).
    pub fn new(
        identity: Identity,
        addresses: BTreeMap<EnclosureId, String>,
        dial: Dial,
    ) -> Arc<Self> {
        let (addresses, channels) = (Mutex::new(addresses), Mutex::default());
        Arc::new(Self {
            identity,
            dial,
            addresses,
            channels,
        })
    }

    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Notes an address.
    pub fn learn(&self, peer: EnclosureId, address: &str) {
        if !address.is_empty() {
            lock(&self.addresses).insert(peer, address.to_owned());
        }
    }

    /// The peers whose addresses are known.
    pub fn known(&self) -> Vec<EnclosureId> {
        lock(&self.addresses).keys().copied().collect()
    }

    /// The address of a peer, if it is known.
    pub fn address(&self, peer: EnclosureId) -> Option<String> {
        lock(&self.addresses).get(&peer).cloned()
    }

    /// A client for a peer.
    pub(crate) fn client(
        &self,
        peer: EnclosureId,
        lane: Lane,
    ) -> Result<GrpcClient<Channel>, String> {
        let address = self
            .address(peer)
            .ok_or_else(|| format!("no address of {peer} is known"))?;
        let mut channels = lock(&self.channels);
        let channel = match channels.get(&(peer, lane)) {
            Some((at, channel)) if *at == address => channel.clone(),
            _ => {
                let channel = (self.dial)(&address).map_err(|error| error.to_string())?;
                channels.insert((peer, lane), (address, channel.clone()));
                channel
            }
        };
        let client = GrpcClient::new(channel);
        let client = client.max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(client.max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster: u128, incarnation: u32, credential: &str) -> Identity {
        let (cluster, incarnation) = (ClusterId::new(cluster), Incarnation::new(incarnation));
        Identity::new(cluster, incarnation, credential).unwrap()
    }

    #[test]
    fn only_the_exact_credential_is_admitted() {
        let ours = identity(1, 1, "secret");
        for (theirs, admitted) in [
            ("secret", true),
            ("secreT", false),
            ("secret1", false),
            ("secre", false),
        ] {
            let request = identity(1, 1, theirs).request(());
            assert_eq!(ours.admit(request.metadata()).is_ok(), admitted, "{theirs}");
        }
        assert!(ours.admit(&MetadataMap::new()).is_err());
    }

    #[test]
    fn another_cluster_or_incarnation_is_refused() {
        let ours = identity(1, 2, "secret");
        for (cluster, incarnation, ok) in [(1, 2, true), (2, 2, false), (1, 1, false)] {
            let theirs = identity(cluster, incarnation, "secret");
            assert_eq!(ours.check(&theirs.seal(PartitionId::ROOT, &7)).is_ok(), ok);
        }
    }

    #[test]
    fn a_credential_that_is_no_header_is_refused() {
        let cluster = ClusterId::new(1);
        for credential in ["", "a\nb"] {
            assert!(Identity::new(cluster, Incarnation::new(1), credential).is_err());
        }
    }
}
