use super::*;

const FULL: &str = r#"
folder = "/srv/enclosure-1"
roles = ["meta", "node", "gateway"]
chain = 2
enclosure = 1
metadata = [
  { enclosure = 1, address = "meta-1:7001" },
  { enclosure = 2, address = "meta-2:7001" },
]
token_file = "/etc/enfilade/token"

[admin]
listen = "10.0.0.1:7003"

[meta]
listen = "0.0.0.0:7001"
advertise = "meta-1:7001"
folder = "/srv/meta"

[node]
listen = "10.0.0.1:7002"
drives = [
  { folder = "/mnt/0", uuid = "01234567-89ab-cdef-0011-223344556677", capacity = "10GiB" },
  { folder = "/mnt/1", uuid = "11234567-89ab-cdef-0011-223344556677" },
]

[gateway]
listen = "0.0.0.0:9000"
"#;

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<NodeConfig> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    NodeConfig::parse(text, variables)
}

fn complaint(text: &str, variables: &[(&str, &str)]) -> String {
    format!("{:#}", parse(text, variables).unwrap_err())
}

#[test]
fn a_full_configuration_reads_back_from_its_own_text() {
    let config = parse(FULL, &[]).unwrap();
    assert_eq!(
        config.addresses().unwrap(),
        ["10.0.0.1:7002", "meta-1:7001", "10.0.0.1:7003"]
    );
    assert_eq!(parse(&config.text().unwrap(), &[]).unwrap(), config);
}

#[test]
fn the_environment_overrides_the_file_and_may_not_invent_entries() {
    let variables = [
        ("ENFILADE_NODE_ADMIN__LISTEN", "10.0.0.9:1"),
        ("ENFILADE_NODE_CHAIN", "7"),
        ("HOME", "/"),
    ];
    let config = parse(FULL, &variables).unwrap();
    assert_eq!(
        (config.admin.listen.to_string(), config.chain.get()),
        ("10.0.0.9:1".into(), 7)
    );
    let error = complaint(FULL, &[("ENFILADE_NODE_CHIAN", "7")]);
    assert!(error.contains("chian"), "{error}");
    let error = complaint(FULL, &[("ENFILADE_NODE_CHAIN__X", "7")]);
    assert!(error.contains("ENFILADE_NODE_CHAIN__X"), "{error}");
}

#[test]
fn what_does_not_hold_together_is_refused_with_its_name() {
    let without = |line: &str| FULL.replace(line, "");
    let cases = [
        (FULL.replace("chain = 2", "chains = 2"), "chains"),
        (FULL.replace(", \"gateway\"]", "]"), "[gateway]"),
        (FULL.replace("\"meta\", ", ""), "[meta]"),
        (without("\nenclosure = 1"), "enclosure = N"),
        (
            without("token_file = \"/etc/enfilade/token\"\n"),
            "token_file",
        ),
        (without("advertise = \"meta-1:7001\"\n"), "advertise"),
        (
            FULL.replace("meta-2:7001", "meta-2"),
            "'meta-2' is not host:port",
        ),
        (FULL.replace("/mnt/1", "/mnt/0"), "named twice"),
        (FULL.replace("10GiB", "10 parsec"), "parsec"),
        (FULL.replace("\nenclosure = 1", "\nenclosure = 0"), "from 1"),
    ];
    for (text, part) in cases {
        let error = complaint(&text, &[]);
        assert!(error.contains(part), "{part}: {error}");
    }
}
