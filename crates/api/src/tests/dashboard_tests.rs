use serde_json::{Value, json};

use super::harness::{Account, House};
use super::visitor::{Visitor, says};

/// Types that an endpoint wants and does not want, each with an example; the endpoint's id.
async fn house() -> (House, Account, String) {
    let house = House::new().await;
    let account = house.account().await;
    for name in ["a.first", "b.wanted"] {
        house.event_type(name).await;
    }
    let body = json!({
        "name": "<b>Hook", "url": "https://example.com/?<script>", "event_types": ["b.wanted"],
    });
    let made = house.own(&account, "POST /endpoints", body).await.expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    (house, account, id)
}

#[tokio::test]
async fn a_type_is_chosen_and_its_example_shown() {
    let (house, account, id) = house().await;
    let visitor = Visitor::sign_in(&house, &account).await;
    let page = visitor.page(&format!("/webhooks/{id}/test")).await;
    says(
        &page,
        &[
            "<option value=\"b.wanted\" selected>",
            "<option value=\"a.first\">",
            "{\n  &quot;of&quot;: &quot;b.wanted&quot;\n}",
            "&lt;b&gt;Hook",
            "Send test event",
        ],
    );
    assert!(!page.contains("<b>") && !page.contains("Result"));
    let page = visitor.page(&format!("/webhooks/{id}/test?event_type=a.first")).await;
    says(&page, &["<option value=\"a.first\" selected>", "&quot;of&quot;: &quot;a.first&quot;"]);
    let fields = [("event_type", "a.first"), ("payload", "{"), ("show", "yes")];
    let answer = visitor.bring(&format!("/webhooks/{id}/test"), &fields).await;
    assert!(answer.leads_to().ends_with(&format!("/webhooks/{id}/test?event_type=a.first")));
    for odd in ["no.such", "%3Cscript%3E"] {
        let page = visitor.page(&format!("/webhooks/{id}/test?event_type={odd}")).await;
        says(&page, &["not in the catalogue", "Choose one"]);
        assert!(!page.contains("<script>"));
    }
    assert_eq!(visitor.get("/webhooks/ep_00000000000000000000000000/test").await.status, 404);
}

#[tokio::test]
async fn what_went_over_the_wire_is_shown() {
    let (house, account, id) = house().await;
    let visitor = Visitor::sign_in(&house, &account).await;
    let page = format!("/webhooks/{id}/test");
    let fields = [("event_type", "a.first"), ("payload", "{\"mine\": 1.0}<!--")];
    let refused = visitor.bring(&page, &fields).await.page(422);
    says(&refused, &["It is not JSON: trailing characters at line 1 column 14.", "1.0}&lt;!--"]);

    let fields = [("event_type", "a.first"), ("payload", "{\"mine\": 1.0}")];
    let shown = visitor.bring(&page, &fields).await.page(200);
    says(
        &shown,
        &[
            "Result",
            "success",
            "204 No Content",
            "after 7 ms",
            "webhook-id",
            "1.235 ms",
            "Send and wait for the answer",
            "&quot;mine&quot;: 1.0",
            "ok \u{fffd}",
            "curl --include --request POST",
            "<option value=\"a.first\" selected>",
        ],
    );
    assert!(!shown.contains("TLS handshake"));

    // The example, when nothing is given.
    let fields = [("event_type", "b.wanted"), ("payload", " ")];
    let shown = visitor.bring(&page, &fields).await.page(200);
    says(&shown, &["{&quot;of&quot;:&quot;b.wanted&quot;}"]);

    let fields = [("event_type", "no.such"), ("payload", "{}")];
    says(&visitor.bring(&page, &fields).await.page(422), &["It is not in the catalogue"]);
    assert_eq!(visitor.submit(&page, &fields).await.status, 403);

    house.own(&account, &format!("POST /endpoints/{id}/disable"), Value::Null).await.expect(200);
    says(&visitor.page(&page).await, &["a test event is sent all the same"]);
}

#[tokio::test]
async fn without_a_type_there_is_nothing_to_send() {
    let house = House::new().await;
    let account = house.account().await;
    let id = house.endpoint(&account).await;
    let visitor = Visitor::sign_in(&house, &account).await;
    let page = visitor.page(&format!("/webhooks/{id}/test")).await;
    says(&page, &["No event types yet"]);
}

#[tokio::test]
async fn a_type_beyond_those_that_are_listed_is_known_when_it_is_chosen() {
    let (house, account, id) = house().await;
    for number in 0..1_000 {
        house.event_type(&format!("b.x{number:04}")).await;
    }
    let body = json!({"event_types": ["b.x0999", "b.wanted"]});
    house.own(&account, &format!("PATCH /endpoints/{id}"), body).await.expect(200);
    let visitor = Visitor::sign_in(&house, &account).await;

    let form = visitor.page(&format!("/webhooks/{id}/settings")).await;
    says(&form, &["value=\"b.x0999\" checked", "has more than the 1,000 event types"]);
    assert!(!form.contains("No longer in the catalogue") && !form.contains("b.x0998"));

    let page = visitor.page(&format!("/webhooks/{id}/test?event_type=b.x0998")).await;
    says(
        &page,
        &["<option value=\"b.x0998\" selected>", "<option value=\"b.x0999\">", "has more than"],
    );
    assert!(!page.contains("not in the catalogue"));
}
