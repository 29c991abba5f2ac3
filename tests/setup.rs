//! The set-up script on machines that are not at hand: each test builds a machine out of stubs for
//! the compiler, `apt-get`, `sudo`, `curl`, `rustup` and Rust, and looks at what the script calls.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Programs that every Debian and Ubuntu has, taken from the machine that runs the test.
const BASE_TOOLS: [&str; 10] = [
    "bash", "cat", "chmod", "dirname", "env", "mkdir", "mktemp", "rm", "sed", "tr",
];

const OLD_RUST: &str = "echo 'rustc 1.63.0 (4b91a6ea7 2022-08-08)'";
const NEW_RUST: &str = "echo 'rustc 1.95.0 (59807616e 2026-04-14)'";
const REFUSE: &str = "exit 1";
const ACCEPT: &str = "exit 0";

/// A pretended machine: a PATH that holds nothing but links and stubs, and an empty home.
struct Machine {
    folder: TempDir,
}

/// What a run of the script did.
struct Outcome {
    success: bool,
    /// Standard output and error together.
    text: String,
    /// Calls of tools that install or fetch something, in order.
    changes: Vec<String>,
}

impl Machine {
    /// Root on a machine with a compiler, Rust and apt-get.
    fn complete() -> Machine {
        let machine = Machine {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        for folder in ["bin", "stubs", "home"] {
            fs::create_dir(machine.path(folder)).expect("an empty folder");
        }
        for tool in BASE_TOOLS {
            let real = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
            let real = real.iter().find(|path| path.exists()).expect("a base tool");
            symlink(real, machine.path("bin").join(tool)).expect("a link");
        }
        symlink("/bin/sh", machine.path("bin/sh")).expect("a link");
        machine.os("Debian GNU/Linux 12 (bookworm)");
        machine
            .tool("id", "echo 0")
            .tool("cc", ACCEPT)
            .tool("c++", ACCEPT)
            .tool("cargo", ACCEPT)
            .tool("rustc", NEW_RUST)
            .tool("rustup", ACCEPT)
            .tool("curl", ACCEPT)
            .tool("apt-get", ACCEPT)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn os(&self, name: &str) {
        fs::write(
            self.path("os-release"),
            format!("ID=x\nPRETTY_NAME=\"{name}\"\n"),
        )
        .expect("a file");
    }

    /// Puts a tool on PATH that does what `script` (POSIX sh) says.
    fn tool(self, name: &str, script: &str) -> Machine {
        fs::write(self.path("stubs").join(name), script).expect("a stub");
        let link = self.path("bin").join(name);
        if !link.exists() {
            symlink(Path::new(REPOSITORY).join("tests/setup/stub"), link).expect("a link");
        }
        self
    }

    fn without(self, tools: &[&str]) -> Machine {
        for tool in tools {
            fs::remove_file(self.path("bin").join(tool)).expect("a tool to remove");
        }
        self
    }

    /// A compiler that works only after `apt-get install` was called.
    fn compiler_comes_with_apt(self) -> Machine {
        let probe = "cat >/dev/null; [ -e \"$HOME/installed\" ]";
        self.tool("c++", probe).tool(
            "apt-get",
            "case \"$1\" in install) : >\"$HOME/installed\" ;; esac",
        )
    }

    /// A Rust that works only after the installer that `curl` fetches has run.
    fn rust_comes_with_the_installer(self) -> Machine {
        let installer = r#"
            printf 'rustup-init %s\n' "$*" >>"$STUB_LOG"
            mkdir -p "$HOME/.cargo/bin"
            for tool in cargo rustc; do
                printf '#!/bin/sh\necho "rustc 1.95.0 (x)"\n' >"$HOME/.cargo/bin/$tool"
                chmod +x "$HOME/.cargo/bin/$tool"
            done
        "#;
        fs::write(self.path("installer"), installer).expect("a file");
        let fetch = r#"for last; do :; done; cat "$HOME/../installer" >"$last""#;
        self.tool("curl", fetch)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let log = self.path("log");
        fs::write(&log, "").expect("an empty log");
        let output = Command::new("/bin/bash")
            .arg(Path::new(REPOSITORY).join("scripts/setup.sh"))
            .args(arguments)
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("home"))
            .env("STUB_LOG", &log)
            .env("STUB_DIR", self.path("stubs"))
            .env("ENFILADE_OS_RELEASE", self.path("os-release"))
            .output()
            .expect("bash runs");
        let asks = [
            "id ",
            "cc ",
            "c++ ",
            "rustc ",
            "sudo -n true",
            "cargo fmt",
            "cargo clippy",
        ];
        let changes = fs::read_to_string(&log)
            .expect("the log")
            .lines()
            .filter(|call| !asks.iter().any(|ask| call.starts_with(ask)))
            .map(str::to_owned)
            .collect();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("text");
        Outcome {
            success: output.status.success(),
            text,
            changes,
        }
    }
}

impl Outcome {
    #[track_caller]
    fn did(&self, expected: &[&str]) {
        assert!(self.success, "set-up failed:\n{}", self.text);
        assert_eq!(self.changes, expected, "set-up said:\n{}", self.text);
    }

    #[track_caller]
    fn refused_with(&self, line: &str) {
        assert!(!self.success, "set-up must fail; it said:\n{}", self.text);
        assert_eq!(self.changes, [""; 0], "nothing may change");
        assert!(
            self.text.contains(line),
            "'{line}' is missing in:\n{}",
            self.text
        );
    }
}

const APT_INSTALL: &str = "apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300";

#[test]
fn a_complete_machine_gets_nothing_installed_and_hears_nothing() {
    let outcome = Machine::complete().run(&["--checks"]);
    outcome.did(&[]);
    assert_eq!(outcome.text, "");
}

#[test]
fn a_complete_machine_needs_neither_apt_nor_sudo_nor_rustup() {
    let machine = Machine::complete().tool("id", "echo 1000");
    machine
        .without(&["apt-get", "rustup", "curl"])
        .run(&["--checks"])
        .did(&[]);
}

#[test]
fn root_gets_a_missing_compiler_from_apt() {
    for os in ["Debian GNU/Linux 12 (bookworm)", "Ubuntu 24.04.1 LTS"] {
        let machine = Machine::complete().compiler_comes_with_apt();
        machine.os(os);
        let outcome = machine.run(&[]);
        outcome.did(&["apt-get update", &format!("{APT_INSTALL} build-essential")]);
        assert!(
            outcome.text.contains(os),
            "the text names the system:\n{}",
            outcome.text
        );
    }
}

#[test]
fn a_missing_linker_is_a_missing_compiler() {
    let machine = Machine::complete()
        .compiler_comes_with_apt()
        .without(&["cc"]);
    // The stub of apt-get installs no cc, so the run ends with the complaint about the compiler.
    let outcome = machine.run(&[]);
    assert!(!outcome.success);
    assert_eq!(outcome.changes.len(), 2, "{:?}", outcome.changes);
}

#[test]
fn another_user_installs_by_sudo_where_it_asks_no_password() {
    let outcome = Machine::complete()
        .compiler_comes_with_apt()
        .tool("id", "echo 1000")
        .tool("sudo", "[ \"$*\" = '-n true' ] || { shift; \"$@\"; }")
        .run(&[]);
    outcome.did(&[
        "sudo -n apt-get update",
        "apt-get update",
        &format!("sudo -n env DEBIAN_FRONTEND=noninteractive {APT_INSTALL} build-essential"),
        &format!("{APT_INSTALL} build-essential"),
    ]);
}

#[test]
fn where_installing_is_not_permitted_the_one_line_to_run_is_printed() {
    let line = "\nsudo apt-get update && sudo apt-get install -y build-essential\n";
    let user = || {
        Machine::complete()
            .tool("c++", REFUSE)
            .tool("id", "echo 1000")
    };
    user().run(&[]).refused_with(line);
    user().tool("sudo", REFUSE).run(&[]).refused_with(line);
}

#[test]
fn the_one_line_names_what_rustup_needs_too_and_rust_waits_for_it() {
    Machine::complete()
        .tool("c++", REFUSE)
        .tool("id", "echo 1000")
        .without(&["cargo", "rustc", "rustup", "curl"])
        .run(&[])
        .refused_with("apt-get install -y build-essential curl ca-certificates\n");
}

#[test]
fn a_system_without_apt_is_told_what_to_install() {
    let machine = Machine::complete()
        .tool("c++", REFUSE)
        .without(&["apt-get"]);
    machine.os("Fedora Linux 42");
    let outcome = machine.run(&[]);
    outcome.refused_with("g++ (11 or newer), make, curl and ca-certificates");
    assert!(outcome.text.contains("Fedora Linux 42"));
}

#[test]
fn a_compiler_that_stays_too_old_after_installing_is_named_as_the_cause() {
    let outcome = Machine::complete().tool("c++", REFUSE).run(&[]);
    assert!(!outcome.success);
    assert!(
        outcome.text.contains("g++ 11 or newer is needed"),
        "{}",
        outcome.text
    );
}

#[test]
fn a_failing_install_fails_the_set_up() {
    let outcome = Machine::complete()
        .tool("c++", REFUSE)
        .tool("apt-get", "case \"$1\" in install) exit 100 ;; esac")
        .run(&[]);
    assert!(!outcome.success);
}

#[test]
fn lists_that_cannot_be_updated_do_not_stop_the_install() {
    let apt = "case \"$1\" in install) : >\"$HOME/installed\" ;; *) exit 100 ;; esac";
    Machine::complete()
        .compiler_comes_with_apt()
        .tool("apt-get", apt)
        .run(&[])
        .did(&["apt-get update", &format!("{APT_INSTALL} build-essential")]);
}

#[test]
fn without_rust_the_installer_of_rustup_is_fetched_and_run() {
    let outcome = Machine::complete()
        .rust_comes_with_the_installer()
        .without(&["cargo", "rustc", "rustup"])
        .run(&[]);
    assert!(outcome.success, "{}", outcome.text);
    assert_eq!(outcome.changes.len(), 2, "{:?}", outcome.changes);
    let fetch = "curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs -o ";
    assert!(
        outcome.changes[0].starts_with(fetch),
        "{:?}",
        outcome.changes
    );
    assert_eq!(
        outcome.changes[1],
        "rustup-init -y --profile minimal --default-toolchain stable \
         --component rustfmt --component clippy"
    );
}

#[test]
fn an_old_rust_of_the_distribution_is_shadowed_by_rustups() {
    let outcome = Machine::complete()
        .rust_comes_with_the_installer()
        .tool("rustc", OLD_RUST)
        .without(&["rustup"])
        .run(&[]);
    assert!(outcome.success, "{}", outcome.text);
    assert!(
        outcome.changes[1].starts_with("rustup-init "),
        "{:?}",
        outcome.changes
    );
}

#[test]
fn a_bare_machine_gets_compiler_curl_and_rust_in_this_order() {
    let machine = Machine::complete()
        .rust_comes_with_the_installer()
        .compiler_comes_with_apt()
        .without(&["cargo", "rustc", "rustup", "curl"]);
    // Installing the package curl puts the stub back on PATH.
    let bring_curl = "case \"$1\" in install) : >\"$HOME/installed\"; \
        printf '#!/bin/sh\\n. \"$STUB_DIR/curl\"\\n' >\"$HOME/../bin/curl\"; \
        chmod +x \"$HOME/../bin/curl\" ;; esac";
    let outcome = machine.tool("apt-get", bring_curl).run(&[]);
    assert!(outcome.success, "{}", outcome.text);
    let packages = format!("{APT_INSTALL} build-essential curl ca-certificates");
    assert_eq!(outcome.changes[..2], ["apt-get update", packages.as_str()]);
    assert!(
        outcome.changes[2].starts_with("rustup-init "),
        "{:?}",
        outcome.changes
    );
}

#[test]
fn an_old_toolchain_of_rustups_is_joined_by_stable_for_this_checkout_only() {
    let rustc = format!("[ ! -e \"$HOME/overridden\" ] && {OLD_RUST} || {NEW_RUST}");
    let rustup = "case \"$1\" in override) : >\"$HOME/overridden\" ;; esac";
    let toolchain = "rustup toolchain install stable --profile minimal \
                     --component rustfmt --component clippy";
    Machine::complete()
        .tool("rustc", &rustc)
        .tool("rustup", rustup)
        .run(&[])
        .did(&[
            toolchain,
            &format!("rustup override set stable --path {REPOSITORY}"),
        ]);
}

#[test]
fn a_download_that_fails_is_reported_and_nothing_is_run() {
    let outcome = Machine::complete()
        .tool("curl", "exit 6")
        .without(&["cargo", "rustc", "rustup"])
        .run(&[]);
    assert!(!outcome.success);
    assert!(
        outcome
            .text
            .contains("fetching https://sh.rustup.rs failed"),
        "{}",
        outcome.text
    );
    assert_eq!(outcome.changes.len(), 1, "{:?}", outcome.changes);
}

#[test]
fn missing_lint_tools_are_added_only_when_they_are_asked_for() {
    let lacking = || Machine::complete().tool("cargo", REFUSE);
    lacking().run(&[]).did(&[]);
    lacking()
        .run(&["--checks"])
        .did(&["rustup component add rustfmt clippy"]);
}
