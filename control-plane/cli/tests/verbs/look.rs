//! get, describe, history, status, schema, completion.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

use crate::support::{World, cells, run, run_telling};

#[tokio::test]
async fn get_shows_a_table_per_kind() {
    let world = World::with_chat().await;
    let services = world.segue(&["get", "services"]).await;
    let rows = cells(&services.out);
    assert_eq!(rows[0], ["NAME", "PROTOCOL", "VERSIONS", "DEFAULT", "REVISION", "AGE"]);
    assert_eq!(rows[1][..5], ["chat", "http", "v1,v2", "v1", "1"]);
    let routes = world.segue(&["get", "rt", "chat", "-o", "wide"]).await;
    let rows = cells(&routes.out);
    assert_eq!(rows[0][..4], ["NAME", "SERVICE", "SPLIT BY", "BACKENDS"]);
    assert_eq!(rows[1][..4], ["chat", "chat", "header x-user-id", "v1=95,v2=5"]);
    let all = world.segue(&["get", "all", "-A"]).await;
    let rows = cells(&all.out);
    assert_eq!(rows[0], ["NAMESPACE", "NAME", "REVISION", "AGE"]);
    assert_eq!(rows[1][..2], ["default", "service/chat"]);
    assert_eq!(rows[2][..2], ["default", "route/chat"]);
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let world = World::with_chat().await;
    let none = world.segue(&["get", "rollouts"]).await;
    assert_eq!((none.code, none.out.as_str()), (0, ""));
    assert_eq!(none.err, "No resources found in namespace default.\n");
    let named = world.segue(&["get", "svc", "nope"]).await;
    assert_eq!((named.code, named.err.as_str()), (1, "error: service \"nope\" not found\n"));
    let elsewhere = world.segue(&["get", "svc/chat", "-n", "shop"]).await;
    assert_eq!(elsewhere.code, 1);
}

#[tokio::test]
async fn what_get_prints_apply_takes() {
    let world = World::with_chat().await;
    for format in ["yaml", "json"] {
        let got = world.segue(&["get", "svc", "chat", "-o", format]).await;
        let file = world.file(&format!("again.{format}"), &got.out);
        let again = world.segue(&["apply", "-f", &file]).await;
        assert_eq!(again.out, "service/chat unchanged\nrevision 1\n", "{format}");
    }
    let all = world.segue(&["get", "all", "-o", "yaml"]).await;
    let file = world.file("all.yaml", &all.out);
    let again = world.segue(&["apply", "-f", &file]).await;
    assert_eq!(again.out, "service/chat unchanged\nroute/chat unchanged\nrevision 1\n");
    let list = world.segue(&["get", "all", "-o", "json"]).await;
    let list: Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&"List".into(), 2));
}

#[tokio::test]
async fn how_far_a_resource_is_stands_beside_it_and_not_in_its_yaml() {
    let world = World::with_chat().await;
    published(&world).await;
    let json = world.segue(&["get", "svc", "chat", "-o", "json"]).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    let conditions = json["status"]["conditions"].as_array().unwrap();
    let types: Vec<&Value> = conditions.iter().map(|condition| &condition["type"]).collect();
    assert_eq!(types, ["Accepted", "ResolvedRefs", "Programmed"]);
    assert_eq!(conditions[0]["status"], "True");
    assert!(conditions.iter().all(|condition| condition["observedGeneration"] == 1));
    let wide = world.segue(&["get", "svc", "-o", "wide"]).await;
    let rows = cells(&wide.out);
    let at = rows[0].iter().position(|&column| column == "PROGRAMMED").unwrap();
    assert_eq!(rows[1][at], "Unknown (NoSidecars)");
    let yaml = world.segue(&["get", "svc", "chat", "-o", "yaml"]).await;
    assert!(!yaml.out.contains("onditions"), "{}", yaml.out);
}

/// Waits until what was applied is offered to sidecars, which is shortly after the commit.
async fn published(world: &World) {
    let published = async {
        loop {
            let run = world.segue(&["get", "svc", "chat", "-o", "wide"]).await;
            if !run.out.contains("NotPublished") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), published).await.unwrap();
}

#[tokio::test]
async fn a_watch_goes_on_until_the_control_plane_stops() {
    let world = World::with_chat().await;
    let server = format!("http://{}", world.control_plane.admin_address);
    let args = ["--server", server.as_str(), "get", "routes", "-w"];
    let printed = Notify::new();
    let watch = run_telling(&args, &printed);
    let stop = async {
        printed.notified().await;
        world.control_plane.shutdown().await;
    };
    let (watched, ()) = tokio::join!(watch, stop);
    assert_eq!(watched.code, 1);
    assert_eq!(cells(&watched.out)[1][..2], ["chat", "chat"], "{watched:?}");
    assert!(watched.err.contains("stopping"), "{}", watched.err);
}

#[tokio::test]
async fn describe_tells_all_about_a_service() {
    let world = World::with_chat().await;
    published(&world).await;
    let run = world.segue(&["describe", "svc", "chat"]).await;
    assert_eq!(run.code, 0, "{run:?}");
    for part in [
        "Name:       chat\n",
        "Labels:     team=talk\n",
        "Revision:   1\n",
        "\nSpec:\n",
        "Conditions:\n  Accepted: True (Accepted): it passes the checks\n",
        "  ResolvedRefs: True (ResolvedRefs): all that it names exists\n",
        "  Programmed: Unknown (NoSidecars): no sidecar that gets it is connected\n",
        "127.0.0.1:9001",
        "Referred to by:\n  route/chat\n",
        "Traffic: <none>\n",
        "History:\n  revision 1 ",
        " first\n",
    ] {
        assert!(run.out.contains(part), "{part:?} in {}", run.out);
    }
    let missing = world.segue(&["describe", "route/nope"]).await;
    assert_eq!((missing.code, missing.err.as_str()), (1, "error: route/nope not found\n"));
}

#[tokio::test]
async fn history_is_a_table_the_newest_first() {
    let world = World::with_chat().await;
    world.segue(&["apply", "-f", &world.chat(50), "-m", "half of them"]).await;
    let run = world.segue(&["history"]).await;
    let rows = cells(&run.out);
    assert_eq!(rows[0], ["REVISION", "COMMITTED", "AUTHOR", "CHANGES", "MESSAGE"]);
    assert_eq!(
        (rows[1][0], rows[1][3], rows[1][4]),
        ("2", "route/chat configured", "half of them")
    );
    assert_eq!(rows[2][3], "service/chat created, route/chat created");
    let one = world.segue(&["history", "-l", "1", "-o", "json"]).await;
    let one: Value = serde_json::from_str(&one.out).unwrap();
    assert_eq!(one["revisions"].as_array().unwrap().len(), 1);
    assert_eq!(one["revisions"][0]["message"], "half of them");
    assert_eq!(one["oldestRevision"], 0);
}

#[tokio::test]
async fn status_and_history_print_yaml() {
    let world = World::with_chat().await;
    let status = world.segue(&["status", "-o", "yaml"]).await;
    assert!(status.out.starts_with("revision: 1\nknownSince: "), "{}", status.out);
    assert!(status.out.contains("\nsidecars: []\n"), "{}", status.out);
    let history = world.segue(&["history", "-o", "yaml"]).await;
    assert!(history.out.contains("\n  message: first\n"), "{}", history.out);
}

#[tokio::test]
async fn schema_and_completion_need_no_server() {
    let schema = run(&["schema", "route"]).await;
    let value: Value = serde_json::from_str(&schema.out).unwrap();
    assert_eq!((schema.code, &value["title"]), (0, &"Route".into()));
    assert_eq!(run(&["schema"]).await.code, 0);
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completion", shell]).await;
        assert!(script.code == 0 && script.out.contains("segue"), "{shell}");
    }
}
