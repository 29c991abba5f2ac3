//! How much of a drive scrub has been through, and how long ago.

use std::time::Duration;

use super::{Engine, EngineError};

/// How far the scrub of a drive is, by the time that it was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Coverage {
    /// How long ago every shard had been scrubbed; none: never yet, or there are no shards.
    pub(crate) complete: Option<Duration>,
    /// For how long the shard was not scrubbed that was not for longest.
    pub(crate) oldest: Duration,
    /// How much of what the drive holds was scrubbed within the time asked for, in percent.
    pub(crate) percent: u8,
}

impl Engine {
    /// How much was scrubbed within some time, and how old the rest is.
    ///
    /// # Errors
    /// When the index fails.
    pub(crate) fn scrub_coverage(&self, within: Duration) -> Result<Coverage, EngineError> {
        let now = self.clock_ms();
        let (mut all, mut fresh) = (0u128, 0u128);
        let (mut oldest, mut every) = (None::<u64>, true);
        for shard in self.shards() {
            // One that was never scrubbed counts from the beginning.
            let at = self.told(self.rows().scrubbed(shard.key))?;
            every &= at.is_some();
            let at = at.unwrap_or(0);
            let bytes = u128::from(shard.log_bytes);
            all += bytes;
            if Duration::from_millis(now.saturating_sub(at)) < within {
                fresh += bytes;
            }
            oldest = Some(oldest.map_or(at, |least| least.min(at)));
        }
        let age = |at: u64| Duration::from_millis(now.saturating_sub(at));
        Ok(Coverage {
            complete: oldest.filter(|_| every).map(age),
            oldest: oldest.map_or(Duration::ZERO, age),
            percent: (fresh * 100)
                .checked_div(all)
                .map_or(100, |part| u8::try_from(part).unwrap_or(100)),
        })
    }
}
