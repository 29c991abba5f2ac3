//! Secrets: the root credentials of S3 and the admin API, and the token of the cluster.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use enfilade_cluster::env::Env;
use enfilade_placement::ClusterId;

use crate::files::{self, Secrecy};

/// Names the root user.
pub(crate) const USER_VARIABLE: &str = "ENFILADE_ROOT_USER";

/// Holds the root user's password.
pub(crate) const PASSWORD_VARIABLE: &str = "ENFILADE_ROOT_PASSWORD";

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The root user: S3 access key and secret key, and user and password of the admin API.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RootCredentials {
    /// The access key.
    pub(crate) user: String,
    /// The secret key.
    pub(crate) password: String,
}

impl fmt::Debug for RootCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootCredentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl RootCredentials {
    /// Checks that S3 and HTTP can carry them.
    ///
    /// # Errors
    /// When they are too short, or hold signs that would be misread.
    pub(crate) fn new(user: String, password: String) -> Result<Self> {
        let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(
            (3..=128).contains(&user.len()) && printable(&user) && !user.contains([':', '/', ',']),
            "the root user must be 3 to 128 printable ASCII characters without ':', '/' and ','"
        );
        ensure!(
            (8..=128).contains(&password.len()) && printable(&password),
            "the root password must be 8 to 128 printable ASCII characters"
        );
        Ok(Self { user, password })
    }

    /// Draws new ones.
    pub(crate) fn generate(env: &Env) -> Self {
        let draw = |len: usize| -> String {
            let sign = |_| char::from(ALPHABET[(env.random.next_u64() >> 58) as usize]);
            (0..len).map(sign).collect()
        };
        Self {
            user: format!("root{}", draw(12).replace(['-', '_'], "x")),
            password: draw(40),
        }
    }

    /// Those of the environment; None when it names none.
    ///
    /// # Errors
    /// When only one of the two is set, or they are unfit.
    pub(crate) fn from_environment() -> Result<Option<Self>> {
        let get = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        match (get(USER_VARIABLE), get(PASSWORD_VARIABLE)) {
            (None, None) => Ok(None),
            (Some(user), Some(password)) => Self::new(user, password).map(Some),
            (Some(_), None) => bail!("{USER_VARIABLE} is set, but {PASSWORD_VARIABLE} is not"),
            (None, Some(_)) => bail!("{PASSWORD_VARIABLE} is set, but {USER_VARIABLE} is not"),
        }
    }

    /// Those of a file that [`RootCredentials::write`] made; None when there is none.
    ///
    /// # Errors
    /// When the file cannot be read or lacks one of the two.
    pub(crate) fn from_file(path: &Path) -> Result<Option<Self>> {
        let Some(text) = files::read_if_there(path)? else {
            return Ok(None);
        };
        let get = |name: &str| {
            let mut lines = text.lines().map(str::trim);
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value
                .map(str::to_owned)
                .ok_or_else(|| anyhow!("{} lacks {name}", path.display()))
        };
        let credentials = Self::new(get(USER_VARIABLE)?, get(PASSWORD_VARIABLE)?);
        credentials
            .with_context(|| path.display().to_string())
            .map(Some)
    }

    /// Those of the environment, else those of the file.
    ///
    /// # Errors
    /// When there are none, or they are unfit.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        if let Some(credentials) = Self::from_environment()? {
            return Ok(credentials);
        }
        Self::from_file(path)?.ok_or_else(|| {
            anyhow!(
                "no credentials: set {USER_VARIABLE} and {PASSWORD_VARIABLE}, or name the folder \
                 of the cluster with --data ({} is not there)",
                path.display()
            )
        })
    }

    /// Keeps them in a file, as lines that a shell can source.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let Self { user, password } = self;
        let text = format!("{USER_VARIABLE}={user}\n{PASSWORD_VARIABLE}={password}\n");
        files::replace(path, text.as_bytes(), Secrecy::Secret)
    }

    /// Whether somebody who gives these is the root user. Takes equally long for every wrong
    /// password of the same length.
    pub(crate) fn are(&self, user: &str, password: &str) -> bool {
        same(self.user.as_bytes(), user.as_bytes())
            & same(self.password.as_bytes(), password.as_bytes())
    }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// What a process needs to belong to a cluster: its id, and the credential that its processes show
/// to each other (PROTOCOLS 10). A secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// What its processes show to each other.
    pub(crate) credential: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// Draws the id and the credential of a new cluster.
    pub(crate) fn generate(env: &Env) -> Self {
        let credential = format!(
            "{:032x}{:032x}",
            env.random.next_u128(),
            env.random.next_u128()
        );
        Self {
            cluster: ClusterId::new(env.random.next_u128()),
            credential,
        }
    }

    /// The text that a node is given.
    pub(crate) fn text(&self) -> String {
        format!("{}.{}", self.cluster, self.credential)
    }

    /// Reads a file that holds one; None when there is none.
    ///
    /// # Errors
    /// When the file holds something else.
    pub(crate) fn from_file(path: &Path) -> Result<Option<Self>> {
        let Some(text) = files::read_if_there(path)? else {
            return Ok(None);
        };
        text.parse()
            .with_context(|| path.display().to_string())
            .map(Some)
    }

    /// Keeps it in a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        files::replace(
            path,
            format!("{}\n", self.text()).as_bytes(),
            Secrecy::Secret,
        )
    }
}

impl FromStr for Token {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (cluster, credential) = text.trim().split_once('.').context("not a cluster token")?;
        let fit = credential.len() >= 32 && credential.bytes().all(|b| b.is_ascii_hexdigit());
        ensure!(fit, "not a cluster token");
        let cluster = cluster.parse().context("not a cluster token")?;
        Ok(Self {
            cluster,
            credential: credential.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_credentials_are_fit_and_read_back_from_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        assert_eq!(RootCredentials::from_file(&path).unwrap(), None);
        let made = RootCredentials::generate(&Env::seeded(1));
        RootCredentials::new(made.user.clone(), made.password.clone()).unwrap();
        made.write(&path).unwrap();
        assert_eq!(
            RootCredentials::from_file(&path).unwrap(),
            Some(made.clone())
        );
        assert!(made.are(&made.user, &made.password));
        assert!(!made.are(&made.user, "wrong") && !made.are("wrong", &made.password));
        assert!(!format!("{made:?}").contains(&made.password));
    }

    #[test]
    fn unfit_credentials_are_refused() {
        let fit = |user: &str, password: &str| {
            RootCredentials::new(user.to_owned(), password.to_owned()).is_ok()
        };
        assert!(fit("root", "long-enough"));
        assert!(!fit("ro", "long-enough") && !fit("ro:ot", "long-enough"));
        assert!(
            !fit("root", "short") && !fit("root", "with a space") && !fit("r\u{f6}ot", "12345678")
        );
    }

    #[test]
    fn a_token_reads_back_and_nonsense_is_refused() {
        let token = Token::generate(&Env::seeded(2));
        assert_eq!(token.text().parse::<Token>().unwrap(), token);
        for text in [
            "",
            ".",
            "12.34",
            &token.text()[..40],
            &format!("{}.zz", token.cluster),
        ] {
            assert!(text.parse::<Token>().is_err(), "{text}");
        }
    }
}
