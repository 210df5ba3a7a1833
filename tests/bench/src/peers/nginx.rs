//! nginx, one worker, keep-alive to the upstream.

use std::fs;
use std::io;
use std::path::Path;

use segue_tests::process::Program;

use super::{Family, Proxy, Setup, free_address, wait_for_port};
use crate::upstream::Upstream;

pub fn start(setup: Setup, upstream: &Upstream, dir: &Path, core: u32) -> io::Result<Proxy> {
    let address = free_address()?;
    let http2 = if setup.legs.downstream_http2 { " http2" } else { "" };
    let (up, pass) = if setup.grpc {
        (upstream.http2, "grpc_pass grpc://$version;")
    } else {
        (upstream.http1, "proxy_pass http://$version;")
    };
    let locations: String =
        setup.prefixes().iter().map(|it| format!("    location {it} {{ {pass} }}\n")).collect();
    let file = dir.join("nginx.conf");
    fs::write(
        &file,
        format!(
            "daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 300s;
  client_body_temp_path {dir}/n1; proxy_temp_path {dir}/n2; fastcgi_temp_path {dir}/n3;
  uwsgi_temp_path {dir}/n4; scgi_temp_path {dir}/n5;
  upstream v1 {{ server {up}; keepalive 256; keepalive_requests 100000000; }}
  upstream v2 {{ server {up}; keepalive 256; keepalive_requests 100000000; }}
  split_clients \"chat$http_x_user_id\" $version {{ 50% v1; * v2; }}
  server {{ listen {address}{http2}; http2_max_concurrent_streams 1024;
    client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
    proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;
{locations}  }}
}}",
            dir = dir.display(),
        ),
    )?;
    let process = Program::new("nginx", "taskset", dir)
        .flag("-c", core.to_string())
        .arg("nginx")
        .flag("-c", &file)
        .start()?;
    wait_for_port(address)?;
    Ok(Proxy { name: "nginx", address, pid: process.id(), _keep: vec![Box::new(Family(process))] })
}
