//! Who asks: with a token, without one, and where it must not go.

use std::fs;

use segue_control_plane::assembly::start;
use segue_control_plane::settings::Settings;

use crate::support::run;

#[tokio::test]
async fn a_token_is_asked_for_with_the_way_to_give_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let settings = Settings { insecure_dev: false, ..Settings::local(&data) };
    let control_plane = start(settings).await.unwrap();
    let server = format!("http://{}", control_plane.admin_address);

    let without = run(&["--server", &server, "status"]).await;
    assert_eq!(without.code, 1, "{}", without.err);
    for way in ["--token-file FILE", "SEGUE_TOKEN_FILE", "DATA_DIR/operator.token"] {
        assert!(without.err.contains(way), "{way} in {}", without.err);
    }
    let made = data.join("operator.token");
    let token_file = made.to_str().unwrap();
    let with = run(&["--server", &server, "--token-file", token_file, "status"]).await;
    assert_eq!(with.code, 0, "{}", with.err);

    let wrong = directory.path().join("wrong");
    fs::write(&wrong, "segue-op-wrong-0123456789").unwrap();
    let token_file = wrong.to_str().unwrap();
    let wrong = run(&["status", "--server", &server, "--token-file", token_file]).await;
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("the token is nobody's"), "{}", wrong.err);
    assert!(!wrong.err.contains("0123456789"), "{}", wrong.err);
}

#[tokio::test]
async fn a_token_never_goes_to_another_machine_in_plain_text() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    fs::write(&token, "segue-op-0123456789").unwrap();
    let token = token.to_str().unwrap();
    // Documentation addresses (RFC 5737): nothing is sent, or this would wait for an answer.
    for server in ["http://192.0.2.1:18001", "192.0.2.1:18001", "http://localhost.example:18001"] {
        let run = run(&["--server", server, "--token-file", token, "status"]).await;
        assert_eq!(run.code, 2, "{server}: {}", run.err);
        assert!(run.err.contains("use https://"), "{}", run.err);
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_told_before_anything_is_sent() {
    for (args, part) in [
        (&["--token-file", "no-such", "status"][..], "--token-file no-such: No such file"),
        (&["--ca-file", "ca.pem", "status"], "plain text, so certificates are of no use"),
        (
            &["--server", "https://127.0.0.1:9", "--client-cert", "c.pem", "status"],
            "--client-cert and --client-key go together",
        ),
    ] {
        let run = run(args).await;
        assert_eq!(run.code, 2, "{args:?}: {}", run.err);
        assert!(run.err.contains(part), "{part} in {}", run.err);
    }
}
