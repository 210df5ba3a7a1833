use super::*;

const HEX: &str = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

fn read_text(text: &str) -> (tempfile::TempDir, Result<Read, DocumentError>) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("ops.token"), "segue-op-0123456789abcdef\n").unwrap();
    let file = directory.path().join("access.yaml");
    fs::write(&file, text).unwrap();
    let read = read(&file);
    (directory, read)
}

fn document(callers: &str) -> String {
    format!("apiVersion: segue.dev/v1alpha1\nkind: AccessList\ncallers:\n{callers}")
}

/// The faults of these callers, without the directory.
fn faults(callers: &str) -> String {
    let (directory, read) = read_text(&document(callers));
    let faults = read.err().unwrap().to_string();
    faults.replace(&format!("{}/", directory.path().display()), "")
}

#[test]
fn callers_are_found_by_token_and_by_certificate() {
    let (_directory, read) = read_text(&document(&format!(
        "  - {{name: ops, tokenFile: ops.token, role: operator}}\n\
         \x20 - {{name: ci, tokenSha256: {HEX}, role: editor, namespaces: [shop, bank]}}\n\
         \x20 - name: dash\n\
         \x20   certificate: {{uri: 'spiffe://mesh.example/dash'}}\n\
         \x20   role: viewer\n\
         \x20   namespaces: '*'\n"
    )));
    let Read { list, sources } = read.unwrap();
    let ops = &list.by_token(b"segue-op-0123456789abcdef").unwrap().caller;
    assert_eq!((ops.name.as_str(), ops.role), ("ops", Role::Operator));
    assert_eq!(ops.namespaces, Namespaces::All);
    // printf %s password | sha256sum
    let ci = &list.by_token(b"password").unwrap().caller;
    assert_eq!(ci.role, Role::Editor);
    assert!(ci.sees("shop") && ci.sees("bank") && !ci.sees("default"));
    assert!(list.by_token(b"passwore").is_none());
    assert_eq!(sources.len(), 2, "the token file is followed too");
}

#[test]
fn each_fault_names_its_line_and_field() {
    let told = faults(
        "  - {name: a b, tokenSha256: abc, role: admin, namespaces: '*'}\n\
         \x20 - {name: ops, tokenFile: missing.token, role: operator, namespaces: [shop]}\n\
         \x20 - {name: ci, role: editor, namespaces: shop}\n\
         \x20 - {name: ci, certificate: {}, role: viewer}\n",
    );
    let expected = [
        "access.yaml:4: callers[0].name: a name has 1 to 64 letters",
        "access.yaml:4: callers[0].role: expected viewer, editor or operator",
        "access.yaml:4: callers[0].tokenSha256: expected 64 hexadecimal digits",
        "access.yaml:5: callers[1].namespaces: an operator acts on the whole",
        "access.yaml:5: callers[1].tokenFile: missing.token: No such file",
        "access.yaml:6: callers[2].namespaces: expected a list of namespaces",
        "access.yaml:6: callers[2]: expected exactly one of tokenSha256, tokenFile and certificate",
        "access.yaml:7: callers[3].name: \"ci\" is the caller of line 6 already",
        "access.yaml:7: callers[3].namespaces: missing: list them",
        "access.yaml:7: callers[3].certificate: expected one name",
    ];
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{told}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\nis not\n{expected}");
    }
}

#[test]
fn two_callers_never_share_a_token() {
    let told = faults(&format!(
        "  - {{name: a, tokenSha256: {HEX}, role: operator}}\n\
         \x20 - {{name: b, tokenSha256: {HEX}, role: operator}}\n"
    ));
    assert_eq!(told, "access.yaml:5: callers[1]: another caller has the same token or certificate");
}

#[test]
fn an_unknown_field_and_broken_text_are_told_without_showing_the_file() {
    let told = faults("  - {name: a, token: my-secret-token-0123, role: operator}\n");
    assert!(told.starts_with("access.yaml:4: unknown field"), "{told}");
    assert!(!told.contains("my-secret-token"), "{told}");
    let (_directory, read) = read_text("kind: [");
    assert!(read.is_err());
    let (_directory, read) = read_text("apiVersion: v1\nkind: Secret\ncallers: []\n");
    let told = read.err().unwrap().to_string();
    assert!(told.contains(":1: apiVersion: expected segue.dev/v1alpha1"), "{told}");
    assert!(told.contains(":2: kind: expected AccessList"), "{told}");
}
