//! Several control planes, and how a sidecar shows them who it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod plane;
#[path = "../src/xds/sample.rs"]
mod sample;

use std::net::SocketAddr;
use std::path::Path;
use std::{fs, io};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use segue_shared::ids::Revision;
use segue_sidecar::control_plane::ControlPlanes;
use segue_sidecar::xds::XdsSettings;
use tonic::Status;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use plane::{ControlPlane, control_plane, control_plane_on, opened, settings, sidecar_with};

fn following(urls: &[String]) -> XdsSettings {
    XdsSettings { control_planes: ControlPlanes::at(urls), ..settings("") }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

#[tokio::test]
async fn the_next_one_is_followed_when_one_goes_away_and_nothing_is_lost() {
    let (a, b) = (control_plane().await, control_plane().await);
    let urls = [url(a.address), url(b.address)];
    let first = ControlPlanes::at(&urls).first("node-1");
    let (mut here, mut there): (ControlPlane, ControlPlane) =
        if first == 0 { (a, b) } else { (b, a) };
    let mut sidecar = sidecar_with(following(&urls)).await;
    let stream = opened(&mut here.delta).await;
    stream.send_mesh("a", "1").await;
    stream.send_mark(1).await;
    sidecar.delivery(|state| state.activated_revision == Revision(1)).await;
    assert_eq!(sidecar.client.status.borrow().control_plane, url(here.address));

    // It drains.
    stream.responses.send(Err(Status::unavailable("draining"))).await.unwrap();
    let mut stream = opened(&mut there.delta).await;
    assert!(sidecar.handle.load().routes.virtual_host("chat").is_some());
    let versions = stream
        .request(segue_shared::xds_names::type_urls::CLUSTER, false)
        .await
        .initial_resource_versions;
    assert_eq!(versions.len(), 1, "only changes come");
    assert_eq!(*sidecar.client.following.borrow(), 1 - first);
    stream.send_mesh("b", "2").await;
    stream.send_mark(2).await;
    sidecar.delivery(|state| state.activated_revision == Revision(2)).await;
    assert_eq!(sidecar.client.status.borrow().control_plane, url(there.address));

    // And back, after a pause: both went away.
    drop(stream);
    opened(&mut here.delta).await;
    sidecar.stop().await;
}

/// What a client that is turned to another control plane does with the stream that it leaves.
async fn left(stream: &mut plane::Delta) {
    let ended = async { while let Ok(Some(_)) = stream.requests.message().await {} };
    tokio::time::timeout(plane::PATIENCE, ended).await.expect("the client ends the stream");
}

#[tokio::test]
async fn one_that_lags_behind_takes_nobody_back() {
    let (a, b) = (control_plane().await, control_plane().await);
    let urls = [url(a.address), url(b.address)];
    let first = ControlPlanes::at(&urls).first("node-1");
    let (mut here, mut there): (ControlPlane, ControlPlane) =
        if first == 0 { (a, b) } else { (b, a) };
    let mut sidecar = sidecar_with(following(&urls)).await;
    let stream = opened(&mut here.delta).await;
    stream.send_mesh("new", "2").await;
    stream.send_mark(2).await;
    sidecar.delivery(|state| state.activated_revision == Revision(2)).await;
    stream.responses.send(Err(Status::unavailable("draining"))).await.unwrap();

    let mut stream = opened(&mut there.delta).await;
    stream.send_mesh("old", "1").await;
    stream.send_mark(1).await;
    left(&mut stream).await;
    let mut stream = opened(&mut here.delta).await;
    let marks = stream.request(segue_shared::xds_names::type_urls::SNAPSHOT_MARK, false).await;
    assert!(marks.initial_resource_versions.is_empty(), "the mark is to be told again");
    assert!(sidecar.handle.load().clusters.index_of("old").is_none());
    assert_eq!(sidecar.client.status.borrow().lower_marks, 1);
    stream.send_mesh("newer", "3").await;
    stream.send_mark(3).await;
    let state = sidecar.delivery(|state| state.activated_revision != Revision(2)).await;
    assert_eq!(state.activated_revision, Revision(3));
    assert_eq!(sidecar.handle.load().generation, 2, "nothing was activated in between");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_store_that_was_put_back_is_followed_once_nobody_has_more() {
    let mut plane = control_plane().await;
    let mut sidecar = sidecar_with(following(&[url(plane.address)])).await;
    let stream = opened(&mut plane.delta).await;
    stream.send_mesh("new", "7").await;
    stream.send_mark(7).await;
    sidecar.delivery(|state| state.activated_revision == Revision(7)).await;
    drop(stream);

    let mut stream = opened(&mut plane.delta).await;
    stream.send_mesh("old", "3").await;
    stream.send_mark(3).await;
    left(&mut stream).await;
    assert!(sidecar.handle.load().clusters.index_of("old").is_none());
    let stream = opened(&mut plane.delta).await;
    stream.send_mark(3).await;
    sidecar.delivery(|state| state.activated_revision == Revision(3)).await;
    sidecar.swapped_to("old").await;
    sidecar.stop().await;
}

#[tokio::test]
async fn one_that_cannot_be_reached_is_passed_over() {
    let mut plane = control_plane().await;
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    // Whichever is first.
    for urls in [[url(closed), url(plane.address)], [url(plane.address), url(closed)]] {
        let sidecar = sidecar_with(following(&urls)).await;
        opened(&mut plane.delta).await;
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn a_token_is_sent_and_read_again_at_each_connection() {
    let bearer = |token: &str| format!("Bearer {token}");
    let (old, new) = ("segue-join-old-0001", "segue-join-new-0001");
    let mut plane = control_plane_on(Server::builder(), Some(&bearer(new))).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let mut settings = following(&[url(plane.address)]);
    settings.control_planes.join_token_file = Some(file.clone());
    let mut sidecar = sidecar_with(settings).await;
    let said = |part: &'static str| {
        move |status: &segue_sidecar::xds::XdsStatus| {
            status.last_error.as_ref().is_some_and(|error| error.contains(part))
        }
    };
    sidecar.status(said("token")).await;
    fs::write(&file, old).unwrap();
    let status = sidecar.status(said("who are you?")).await;
    assert!(!format!("{status:?}").contains(old));
    fs::write(&file, format!("# rotated\n{new}\n")).unwrap();
    opened(&mut plane.delta).await;
    sidecar.stop().await;
}

/// An authority, and a certificate for `name` of its own, as PEM files.
fn certificates(dir: &Path, name: &str) -> io::Result<()> {
    let fail = |error: rcgen::Error| io::Error::other(error.to_string());
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(fail)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().map_err(fail)?;
    let authority = CertifiedIssuer::self_signed(params, key).map_err(fail)?;
    let key = KeyPair::generate().map_err(fail)?;
    let params = CertificateParams::new(vec![name.to_owned()]).map_err(fail)?;
    let leaf = params.signed_by(&key, &authority).map_err(fail)?;
    fs::write(dir.join("ca.pem"), authority.pem())?;
    fs::write(dir.join("cert.pem"), leaf.pem())?;
    fs::write(dir.join("key.pem"), key.serialize_pem())
}

#[tokio::test]
async fn over_tls_both_sides_are_who_they_say() {
    let (server, client) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(server.path(), "localhost").unwrap();
    certificates(client.path(), "node-1").unwrap();
    let read = |dir: &tempfile::TempDir, name: &str| fs::read(dir.path().join(name)).unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read(&server, "cert.pem"), read(&server, "key.pem")))
        .client_ca_root(Certificate::from_pem(read(&client, "ca.pem")));
    let token = "segue-join-0123456789";
    let secure = Server::builder().tls_config(tls).unwrap();
    let mut plane = control_plane_on(secure, Some(&format!("Bearer {token}"))).await;
    let file = client.path().join("token");
    fs::write(&file, token).unwrap();

    let mut good = following(&[format!("https://localhost:{}", plane.address.port())]);
    good.control_planes.join_token_file = Some(file);
    good.control_planes.ca_file = Some(server.path().join("ca.pem"));
    let identity = |name: &str| client.path().join(name);
    good.control_planes.identity_files = Some((identity("cert.pem"), identity("key.pem")));

    let mut nameless = good.clone();
    nameless.control_planes.identity_files = None;
    let mut misled = good.clone();
    misled.control_planes.ca_file = Some(client.path().join("ca.pem"));
    for bad in [nameless, misled] {
        let mut sidecar = sidecar_with(bad).await;
        let status = sidecar.status(|status| status.last_error.is_some()).await;
        assert!(!status.connected, "{status:?}");
        sidecar.stop().await;
    }
    assert!(plane.delta.try_recv().is_err(), "neither got through");

    let sidecar = sidecar_with(good).await;
    let stream = opened(&mut plane.delta).await;
    stream.send_mesh("a", "1").await;
    sidecar.swapped_to("a").await;
    sidecar.stop().await;
}
