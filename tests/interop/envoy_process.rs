//! A real Envoy that takes its configuration from our control plane.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use segue_tests::fetch::Fetch;
use segue_tests::mesh::Mesh;
use segue_tests::process::{Process, Program};
use segue_tests::wait;
use serde_json::json;

const START_LIMIT: Duration = Duration::from_secs(30);
/// Envoy does not tell when it runs on a revision.
pub const FOLLOW_LIMIT: Duration = Duration::from_secs(15);

/// Variants of ADS.
#[derive(Clone, Copy, Debug)]
pub enum Variant {
    Delta,
    StateOfTheWorld,
}

/// A running Envoy.
pub struct Envoy {
    /// Where callers send requests.
    pub outbound: SocketAddr,
    process: Process,
}

impl Envoy {
    /// Starts it and waits until its outbound listener is there, which needs a configuration.
    pub fn start(mesh: &mut Mesh, program: &Path, variant: Variant) -> io::Result<Self> {
        // Listeners of xDS have fixed ports; a port that was free a moment ago is as good as it gets.
        let outbound = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let xds = mesh.control_plane().xds_address;
        let file = mesh.file("envoy.json", &bootstrap(variant, xds, outbound).to_string())?;
        let process = Program::new(format!("envoy-{variant:?}"), program, mesh.dir())
            .flag("--concurrency", "1")
            .flag("--log-level", "warning")
            .arg("--disable-hot-restart")
            .flag("-c", file)
            .start()?;
        let envoy = Self { outbound, process };
        wait::until("Envoy serves", START_LIMIT, || {
            let answer = Fetch::get(outbound, "/").host("chat").send().ok()?;
            (answer.status == 200).then_some(())
        })
        .map_err(|error| io::Error::other(format!("{error}\n{}", envoy.process.log_tail())))?;
        Ok(envoy)
    }

    /// Resources that Envoy refused or warned about.
    pub fn complaints(&self) -> io::Result<String> {
        let log = fs::read_to_string(self.process.log())?;
        Ok(log.lines().filter(|line| line.contains("rejected")).collect::<Vec<_>>().join("\n"))
    }
}

fn bootstrap(variant: Variant, xds: SocketAddr, outbound: SocketAddr) -> serde_json::Value {
    let api_type = match variant {
        Variant::Delta => "DELTA_GRPC",
        Variant::StateOfTheWorld => "GRPC",
    };
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let http2 = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let address = json!({"socket_address": {
        "address": xds.ip().to_string(), "port_value": xds.port()}});
    json!({
        "node": {
            "id": "envoy-1",
            "cluster": "callers",
            "metadata": {"outbound_address": outbound.to_string()}
        },
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]
            },
            "cds_config": ads,
            "lds_config": ads
        },
        "static_resources": {"clusters": [{
            "name": "xds",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": http2, "explicit_http_config": {"http2_protocol_options": {}}}
            },
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address}}]}]}
        }]}
    })
}
