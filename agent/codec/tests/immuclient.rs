//! Notifications byte by byte as immuclient posted them.
#![allow(clippy::unwrap_used)] // helpers of tests

use auditmon_codec::{Body, Credentials, Format, Framing, Item};
use serde_json::{Value, json};

fn recorded() -> Vec<String> {
    let text = include_str!("../../../tests/fixtures/immuclient/p15-monitoring-1.11.1.json");
    let all: Value = serde_json::from_str(text).unwrap();
    let all = all["notifications"].as_array().unwrap().iter();
    all.map(|one| one["body_text"].as_str().unwrap().to_owned()).collect()
}

/// The event of the audit that a notification tells of.
fn event(body: &Value) -> String {
    let tampered = body["tampered"].as_bool().unwrap();
    let state = |state: &Value| {
        let hex = |value: &Value| {
            use base64::Engine as _;
            let bytes = base64::prelude::BASE64_STANDARD
                .decode(value.as_str().unwrap())
                .unwrap();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let (signature, key) = (&state["signature"]["signature"], &state["signature"]["public_key"]);
        json!({"tx": state["tx"], "hash": hex(&state["hash"]), "signature": hex(signature), "signed_by": hex(key)})
    };
    let data = json!({
        "result": if tampered { "tampered" } else { "ok" },
        "database": body["db"],
        "checked": "walk",
        "trusted": state(&body["previous_state"]),
        "current": state(&body["current_state"]),
    });
    let name = if tampered {
        "immudb.audit.tampered"
    } else {
        "immudb.audit.ok"
    };
    canonical(name, body["run_at"].as_str().unwrap(), &data)
}

fn canonical(name: &str, time: &str, data: &Value) -> String {
    format!(
        "{{\"event_id\":\"019b76da-a800-7000-8000-000000000001\",\"event_time\":\"{time}\",\"event_name\":\"{name}\",\
         \"username\":\"auditmon\",\"event_data\":{data}}}"
    )
}

fn item(canonical: &str) -> Item<'_> {
    Item {
        origin: "h/00",
        seq: 1,
        received: 0,
        canonical: canonical.as_bytes(),
    }
}

fn written(canonical: &str) -> String {
    let credentials = Credentials {
        username: "note<user>&".to_owned(),
        password: "note-password".to_owned(),
    };
    let mut body = Body::new(&Format::Immuclient, Framing::Event, 1 << 20).with(&credentials);
    body.push(&item(canonical)).unwrap();
    String::from_utf8(body.finish()).unwrap()
}

#[test]
fn bodies_are_those_that_were_recorded() {
    let recorded = recorded();
    assert!(recorded.len() > 10);
    for body in recorded {
        let value: Value = serde_json::from_str(&body).unwrap();
        let event = event(&value);
        assert!(Format::Immuclient.takes(&item(&event)));
        assert_eq!(written(&event), body);
    }
}

#[test]
fn keys_are_there_where_nothing_is_known() {
    let data = json!({"database": "a\"b", "trusted": {"tx": 7, "hash": "00ff"}, "current": null});
    assert_eq!(
        written(&canonical("immudb.audit.tampered", "2026-11-20T22:34:39.500Z", &data)),
        "{\"username\":\"note\\u003cuser\\u003e\\u0026\",\"password\":\"note-password\",\"db\":\"a\\\"b\",\
         \"run_at\":\"2026-11-20T22:34:39.5Z\",\"tampered\":true,\"previous_state\":{\"tx\":7,\"hash\":\"AP8=\",\
         \"signature\":{\"signature\":\"\",\"public_key\":\"\"}},\"current_state\":{\"tx\":0,\"hash\":\"\",\
         \"signature\":{\"signature\":\"\",\"public_key\":\"\"}}}"
    );
}

#[test]
fn other_events_are_not_posted() {
    let states = json!({"tx": 7, "hash": "00ff"});
    for (name, data) in [
        (
            "immudb.audit.ok",
            json!({"database": "db", "checked": "first-seen", "trusted": null, "current": states}),
        ),
        (
            "immudb.audit.ok",
            json!({"database": "db", "checked": "walk", "trusted": null, "current": states}),
        ),
        ("immudb.audit.error", json!({"database": "db", "trusted": states})),
        ("immudb.audit.tampered", json!({"database": "", "trusted": states})),
        ("immudb.trust", json!({"database": "db", "trusted": states})),
        ("execve", json!({"argv": ["\"event_name\":\"immudb.audit.ok\""]})),
    ] {
        let event = canonical(name, "2026-11-20T22:34:39.500Z", &data);
        assert!(!Format::Immuclient.takes(&item(&event)), "{event}");
        assert!(Format::Auditmon.takes(&item(&event)));
    }
    assert!(
        !format!(
            "{:?}",
            Credentials {
                username: "u".to_owned(),
                password: "T0P5ECRET".to_owned()
            }
        )
        .contains("T0P")
    );
}
