//! The codecs of the profiles in use: made once, shared by all requests.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use enfilade_placement::Profile;
use enfilade_storage_node::erasure::{Codec, ErasureError};

/// Codecs by `(k, m)`. A cluster has a handful of profiles, so that nothing is ever dropped.
#[derive(Default)]
pub(super) struct Codecs(Mutex<HashMap<(usize, usize), Codec>>);

impl Codecs {
    /// The codec of a profile.
    ///
    /// # Errors
    /// Never for a valid [`Profile`], whose limits are below the codec's.
    pub(super) fn get(&self, profile: Profile) -> Result<Codec, ErasureError> {
        let mut codecs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (profile.k(), profile.m());
        if let Some(codec) = codecs.get(&key) {
            return Ok(codec.clone());
        }
        let codec = Codec::new(profile.k(), profile.m())?;
        codecs.insert(key, codec.clone());
        Ok(codec)
    }
}
