use std::time::Duration;

use postrider_domain::delivery::Response;
use postrider_domain::ids::DeliveryId;
use postrider_domain::outcome::{self, ErrorKind, Failure, Outcome};
use serde_json::{Value, json};

use super::harness::{Account, House};
use super::visitor::{Visitor, says};

const HOSTILE: &str = "\"'></pre><script>alert(1)</script>";

/// A house with an endpoint.
struct Scene {
    house: House,
    account: Account,
    endpoint: String,
}

impl Scene {
    async fn new() -> Self {
        let house = House::new().await;
        let account = house.account().await;
        house.event_type("a.b").await;
        let endpoint = house.endpoint(&account).await;
        Self { house, account, endpoint }
    }

    /// A new delivery.
    async fn publish(&self) -> DeliveryId {
        let body = json!({"event_type": "a.b", "payload": {"it": HOSTILE}});
        let event = self.house.own(&self.account, "POST /events", body).await.expect(202);
        let list = format!("GET /endpoints/{}/deliveries", self.endpoint);
        let list = self.house.own(&self.account, &list, Value::Null).await.expect(200);
        assert_eq!(list["data"][0]["event_id"], event["id"]);
        list["data"][0]["id"].as_str().unwrap().parse().unwrap()
    }

    /// Puts an attempt on record that ended so.
    async fn attempt(&self, id: DeliveryId, response: Option<Response>, outcome: Outcome) {
        self.house.attempted(self.account.id, id, response, outcome, 12).await;
    }

    async fn fail(&self, id: DeliveryId) {
        let failure = Failure::new(ErrorKind::Timeout, &format!("no answer {HOSTILE}"));
        self.attempt(id, None, Outcome::Failure(failure)).await;
    }

    fn visitor(&self) -> impl Future<Output = Visitor<'_>> {
        Visitor::sign_in(&self.house, &self.account)
    }
}

fn response(status: u16, headers: &[(&str, &str)]) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Response { status, headers: headers.collect(), body: HOSTILE.as_bytes().into() }
}

#[tokio::test]
async fn each_attempt_stands_on_the_time_line() {
    let scene = Scene::new().await;
    let id = scene.publish().await;
    let visitor = scene.visitor().await;
    let page = format!("/deliveries/{id}");
    says(
        &visitor.page(&page).await,
        &["An attempt is due", "0 attempts of at most 11", "every 2s"],
    );

    scene.house.clock.advance(Duration::from_millis(1_500));
    scene.fail(id).await;
    scene.house.clock.advance(Duration::from_secs(75));
    let moved = response(302, &[("location", "/new"), ("x", HOSTILE)]);
    let outcome = outcome::of_status(302, Some("/new"), None);
    scene.attempt(id, Some(moved), outcome).await;
    let shown = visitor.page(&page).await;
    says(
        &shown,
        &[
            "It failed so far. The next attempt is due in",
            "2 attempts of at most 11",
            "1 s later",
            "1 min 15 s later",
            "No answer in time",
            "no answer &quot;'&gt;",
            "302 Found",
            "<code>https://example.com/new</code>",
            "will be due",
            "Attempt 3",
        ],
    );
    assert_eq!(shown.matches("<details open>").count(), 1, "the last attempt");
    let open = shown.find("<details open>").unwrap();
    assert!(shown.find("Attempt 1").unwrap() < open && open < shown.find("Attempt 2").unwrap());
    assert!(!shown.contains("<script>alert"), "{shown}");

    scene.attempt(id, Some(response(200, &[])), outcome::of_status(200, None, None)).await;
    let shown = visitor.page(&page).await;
    says(&shown, &["It was delivered", "1 min 16 s after it was made", "200 OK", "Delivered."]);
    assert!(!shown.contains("every 2s"), "there is nothing to wait for");
}

#[tokio::test]
async fn a_page_learns_that_it_is_out_of_date() {
    let scene = Scene::new().await;
    let id = scene.publish().await;
    let visitor = scene.visitor().await;
    let standing = format!("/deliveries/{id}/standing?was=pending-0");
    let same = visitor.get(&standing).await;
    assert!(!same.headers.contains_key("hx-refresh"));
    assert_eq!(same.headers["content-type"], "text/html; charset=utf-8");
    says(&String::from_utf8(same.bytes).unwrap(), &["id=\"standing\"", "was=pending-0"]);
    scene.fail(id).await;
    assert_eq!(visitor.get(&standing).await.headers["hx-refresh"], "true");
}

#[tokio::test]
async fn each_end_is_said_in_words() {
    let scene = Scene::new().await;
    let visitor = scene.visitor().await;
    let (exhausted, held) = (scene.publish().await, scene.publish().await);
    for _ in 0..11 {
        scene.fail(exhausted).await;
    }
    let shown = visitor.page(&format!("/deliveries/{exhausted}")).await;
    says(&shown, &["Every attempt failed", "11 attempts of at most 11", "Given up"]);
    let shown = visitor.page(&format!("/deliveries/{held}")).await;
    says(&shown, &["It is kept while", "is made once the webhook is enabled"]);
    let delete = format!("DELETE /endpoints/{}", scene.endpoint);
    scene.house.own(&scene.account, &delete, Value::Null).await.expect(204);
    let shown = visitor.page(&format!("/deliveries/{held}")).await;
    says(&shown, &["It was discarded", "was deleted"]);
    assert!(!shown.contains("Send again"), "there is nowhere to send it");
    let again = visitor.bring(&format!("/deliveries/{held}/retry"), &[]).await;
    says(&again.page(409), &["Nothing can be delivered to it again."]);
}

#[tokio::test]
async fn it_is_sent_again() {
    let scene = Scene::new().await;
    let id = scene.publish().await;
    let visitor = scene.visitor().await;
    let retry = format!("/deliveries/{id}/retry");
    assert_eq!(visitor.submit(&retry, &[]).await.status, 403);
    let answer = visitor.bring(&retry, &[]).await;
    assert_eq!(answer.status, 303);
    let way = answer.leads_to();
    assert!(way.contains("/deliveries/dlv_") && !way.contains(&id.to_string()), "{way}");
    says(&visitor.page(way).await, &["Sent again"]);
}

#[tokio::test]
async fn nobody_sees_anothers_delivery() {
    let scene = Scene::new().await;
    let id = scene.publish().await;
    let other = scene.house.account().await;
    let visitor = Visitor::sign_in(&scene.house, &other).await;
    for page in [format!("/deliveries/{id}"), format!("/deliveries/{id}/standing")] {
        assert_eq!(visitor.get(&page).await.status, 404);
    }
    assert_eq!(visitor.get(&format!("/deliveries/{}", DeliveryId::MIN)).await.status, 404);
    assert_eq!(visitor.bring(&format!("/deliveries/{id}/retry"), &[]).await.status, 404);
}
