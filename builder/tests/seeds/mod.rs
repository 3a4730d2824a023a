//! Seeds as tests render them: with a vault that knows one secret.
#![allow(unreachable_pub, clippy::expect_used, reason = "a test that can't go on fails")]

use kiln::cluster::Cluster;
use kiln::cluster::settings::Secret;
use kiln::digest::Sha256;
use kiln::render::{Fetched, Seed, Stock, Vault, seed, stock_seed};
use std::sync::Arc;

/// A vault whose every secret is this text.
#[derive(Debug)]
struct Always(String);

impl Vault for Always {
    fn reveal(&self, _: &Secret) -> Result<String, String> {
        Ok(self.0.clone())
    }
    fn own(&self, _: &str, _: &str) -> Result<Option<String>, String> {
        Ok(Some(self.0.clone()))
    }
    fn public(&self, name: &str, _: &str) -> Result<Option<String>, String> {
        let text = match name {
            "made" => "1790000000",
            "founding" => "true",
            _ => "public",
        };
        Ok(Some(text.to_owned()))
    }
    fn digest(&self, _: &[u8]) -> String {
        String::new()
    }
}

/// A vault whose every secret is `text`.
pub fn always(text: &str) -> Arc<dyn Vault> {
    Arc::new(Always(text.to_owned()))
}

/// A node's seed for a stock image.
pub fn stock(cluster: &Cluster, name: &str, vault: &Arc<dyn Vault>) -> Seed {
    let artefacts = [Fetched {
        url: "https://example.com/k3s?x=1&y='2'".to_owned(),
        sha256: Sha256::of(b"k3s"),
        path: "/usr/local/bin/k3s".to_owned(),
        mode: 0o755,
        member: None,
    }];
    let stock = Stock { helper: Sha256::of(b"helper"), artefacts: &artefacts };
    stock_seed((cluster, cluster.node(name).expect("the node")), vault, &stock).expect("rendered")
}

/// A node's seed for Kiln's own image.
pub fn kiln(cluster: &Cluster, name: &str, vault: &Arc<dyn Vault>) -> Seed {
    seed(cluster, cluster.node(name).expect("the node"), vault).expect("rendered")
}
