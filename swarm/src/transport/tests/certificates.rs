//! Certificates as a node has them, of a key of the tests.

use std::{fs, net::Ipv4Addr, path::Path, sync::Arc};

use hcl_firstboot::{
    identity::NodeId,
    key::ClusterKey,
    trust::{Issued, NodeNames, Trust, Validity},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;

/// The cluster of this number.
pub(crate) fn trust(cluster: u8) -> Trust {
    Trust::new(&ClusterKey::new([cluster; 32]))
}

/// A node's certificate.
pub(crate) fn node(trust: &Trust, address: Ipv4Addr) -> Issued {
    let number = address.octets()[3];
    let names = NodeNames::new(NodeId([number; 16]), address, &format!("node-{number}")).unwrap();
    trust.nodes.issue(&names, Validity::LIFE, &[number; 32])
}

/// A user's certificate; another one for each `seed`.
pub(crate) fn user(trust: &Trust, name: &str, seed: u8) -> Issued {
    trust.users.issue(&name.parse().unwrap(), Validity::LIFE, &[seed; 32])
}

/// The folder of the node at `address`. What it shows users is by the nodes' authority: who is believed there is not what is tested.
pub(crate) fn folder(trust: &Trust, address: Ipv4Addr) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = node(trust, address);
    write(folder.path(), "nodes-ca.pem", &trust.nodes.certificate_pem());
    write(folder.path(), "users-ca.pem", &trust.users.certificate_pem());
    for name in ["node", "server"] {
        write(folder.path(), &format!("{name}.pem"), &own.certificate_pem());
        write(folder.path(), &format!("{name}-key.pem"), &own.key_pem());
    }
    folder
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

/// A client that believes the nodes' authority and shows `shown`.
pub(crate) fn config(trust: &Trust, shown: Option<&Issued>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(trust.nodes.certificate().to_vec())).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match shown {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(issued.key().to_vec()));
            builder.with_client_auth_cert(vec![issued.certificate().to_vec().into()], key).unwrap()
        }
    })
}
