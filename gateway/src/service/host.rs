//! Buckets as hosts: `bucket.domain`. Whatever is not under a configured domain is path-style, also
//! when domains are configured (s3s's own parser takes every foreign host for a bucket).

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// The domains under which buckets are hosts.
pub(crate) struct Hosts {
    domains: Vec<String>,
}

impl Hosts {
    /// Domains with or without a port, in any case.
    pub(crate) fn new(domains: &[String]) -> Self {
        let domains = domains.iter();
        let domains = domains
            .map(|domain| without_port(domain).to_ascii_lowercase())
            .collect();
        Self { domains }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = without_port(host).to_ascii_lowercase();
        for domain in &self.domains {
            let bucket = name
                .strip_suffix(domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'));
            if let Some(bucket) = bucket {
                return Ok(VirtualHost::new(domain.as_str()).with_bucket(bucket.to_owned()));
            }
        }
        Ok(VirtualHost::new(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_under_a_domain_name_buckets() {
        let hosts = Hosts::new(&["s3.Example.com:9000".to_owned(), "local".to_owned()]);
        for (host, bucket) in [
            ("photos.s3.example.com:9000", Some("photos")),
            ("my.photos.S3.EXAMPLE.com", Some("my.photos")),
            ("s3.example.com", None),
            ("localhost:9000", None),
            ("other.org", None),
            ("a.local", Some("a")),
        ] {
            assert_eq!(
                hosts.parse_host_header(host).unwrap().bucket(),
                bucket,
                "{host}"
            );
        }
    }
}
