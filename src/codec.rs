//! The kernel of the erasure codec: the fastest that this CPU runs, unless `ENFILADE_KERNEL` names
//! another.

use anyhow::{Context as _, Result};
use enfilade_storage_node::erasure::Kernel;

/// The variable that names a kernel.
const VARIABLE: &str = "ENFILADE_KERNEL";

/// Chooses the kernel of this process, and logs it. To be called before anything is encoded.
///
/// # Errors
/// When `ENFILADE_KERNEL` names none that this CPU runs: whoever sets it wants that one, and is
/// told which there are.
pub(crate) fn choose_kernel() -> Result<()> {
    let forced = std::env::var(VARIABLE).unwrap_or_default();
    named(&forced)
        .and_then(|kernel| kernel.map_or(Ok(()), |kernel| Ok(kernel.choose()?)))
        .context(VARIABLE)?;
    tracing::info!(kernel = Kernel::in_use().name(), "erasure codec");
    Ok(())
}

/// The kernel of a name, and none of no name.
fn named(name: &str) -> Result<Option<Kernel>> {
    match name {
        "" => Ok(None),
        name => Ok(Some(name.parse()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_the_choice_and_a_wrong_one_is_refused_with_those_there_are() {
        assert_eq!(named("").expect("no name"), None);
        assert_eq!(named("scalar").expect("a name"), Some(Kernel::Scalar));
        let refused = named("gfni").expect_err("no name of ours").to_string();
        assert!(
            refused.contains("'gfni'") && refused.contains("scalar"),
            "{refused}"
        );
    }
}
