//! Changes that are committed together with their answers.

use postrider_domain::limits::MAX_KEPT_ANSWER_BYTES;

use super::*;
use crate::kv::Error;
use crate::{
    Answer, AnswerError, Begun, EarlierRequest, Idempotency, KeyedRequest, MAX_REQUEST_TIME,
    PageRequest,
};

fn keyed(account: Option<AccountId>, key: u8, body: u8, at: Timestamp) -> KeyedRequest {
    let idempotency = Idempotency { key_sha256: [key; 32], body_sha256: [body; 32] };
    KeyedRequest { account, idempotency, at }
}

fn answer(body: &[u8]) -> Answer {
    Answer { status: 201, body: body.to_vec().into() }
}

impl Fixture {
    /// Creates an endpoint and answers with its id.
    async fn create_once(&self, request: KeyedRequest) -> Result<bool, Error> {
        let endpoint = self.unsaved(self.id_generator.id(request.at), &["a"]);
        let id = endpoint.id.to_string();
        let answered = move |made: &bool| made.then(|| answer(id.as_bytes()));
        self.records.answering(request, answered).create_endpoint(&endpoint).await
    }

    async fn endpoints(&self) -> Vec<String> {
        let page = PageRequest { limit: 250, after: None };
        let filter = crate::EndpointFilter::default();
        let page = self.records.find_endpoints(self.account, filter, page).await.unwrap();
        page.items.into_iter().map(|view| view.endpoint.id.to_string()).collect()
    }

    async fn keys_of(&self, account: AccountId) -> usize {
        let prefix = crate::keys::idempotency::key(account, &[0; 32]);
        let range = crate::kv::Range::prefix(&prefix[..prefix.len() - 32]);
        self.records.store.rows(range).await.unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_with_an_unknown_result_creates_one_and_keeps_its_answer() {
    for seed in 0..40 {
        let faults = Faults { lost_after_commit: 0.5, conflict: 0.2, ..Faults::default() };
        let fixture = Fixture::with_faults(seed, Faults::default()).await;
        fixture.memory.set_faults(faults);
        let request = keyed(Some(fixture.account), 1, 1, START);
        let all = (0..10).map(|_| fixture.create_once(request));
        let created = futures::future::join_all(all).await;
        fixture.memory.set_faults(Faults::default());
        // The one that created it may have found its own answer.
        assert!(created.iter().filter(|it| **it == Ok(true)).count() <= 1, "{created:?}");
        assert!(
            created.iter().all(|it| matches!(it, Ok(true) | Err(Error::Conflict))),
            "{created:?}"
        );
        let [id] = &fixture.endpoints().await[..] else { panic!("seed {seed}: not one endpoint") };
        let earlier = fixture.records.earlier_request(&request).await.unwrap();
        assert_eq!(earlier, Some(EarlierRequest::Answered(answer(id.as_bytes()))));
        let other = keyed(Some(fixture.account), 1, 2, START);
        let reused = fixture.records.earlier_request(&other).await;
        assert!(matches!(reused, Err(AnswerError::IdempotencyKeyReused)));
    }
}

#[tokio::test]
async fn a_change_that_fails_leaves_the_key_free() {
    let fixture = Fixture::new().await;
    let request = keyed(Some(AccountId::MAX), 1, 1, START);
    assert_eq!(fixture.create_once(request).await, Ok(true));
    let gone = fixture.records.delete_account(fixture.account).await;
    assert_eq!(gone, Ok(true));
    let request = keyed(Some(fixture.account), 1, 1, START);
    assert_eq!(fixture.create_once(request).await, Ok(false));
    assert_eq!(fixture.records.earlier_request(&request).await.unwrap(), None);
    // Nothing is added to an account that is gone.
    assert_eq!(fixture.records.keep_answer(&request, answer(b"x")).await.unwrap(), None);
    let id = fixture.id_generator.id(START);
    assert_eq!(fixture.records.begin_request(&request, id).await.unwrap(), Begun::Now(id));
    assert_eq!(fixture.keys_of(fixture.account).await + fixture.keys_of(AccountId::MAX).await, 0);
}

#[tokio::test]
async fn keys_are_swept_once_they_have_expired() {
    let fixture = Fixture::new().await;
    let sweep = async |now| {
        for fence in &fixture.fences {
            while fixture.records.sweep(*fence, now).await.unwrap() {}
        }
    };
    for key in 0..20 {
        for account in [Some(fixture.account), None] {
            let request = keyed(account, key, 1, START);
            let account = Account {
                id: fixture.id_generator.id(START),
                name: Name::parse("n").unwrap(),
                contact_emails: Vec::new(),
                created_at: START,
                updated_at: START,
            };
            let records = fixture.records.answering(request, |(): &()| Some(answer(b"made")));
            records.create_account(&account).await.unwrap();
        }
    }
    let end = START.plus(crate::IDEMPOTENCY_TTL);
    sweep(end).await;
    assert_eq!(fixture.keys_of(fixture.account).await, 20);
    assert_eq!(fixture.keys_of(AccountId::MIN).await, 20);
    // One of them has been used again.
    let again = keyed(None, 3, 1, end);
    assert_eq!(fixture.records.keep_answer(&again, answer(b"again")).await.unwrap(), None);
    sweep(end.plus(Duration::from_millis(1))).await;
    assert_eq!(fixture.keys_of(fixture.account).await, 0);
    assert_eq!(fixture.keys_of(AccountId::MIN).await, 1);
    let earlier = fixture.records.earlier_request(&again).await.unwrap();
    assert_eq!(earlier, Some(EarlierRequest::Answered(answer(b"again"))));
    sweep(end.plus(2 * crate::IDEMPOTENCY_TTL)).await;
    assert_eq!(fixture.keys_of(AccountId::MIN).await, 0);
}

#[tokio::test]
async fn the_first_answer_is_kept_unless_it_is_too_large() {
    let fixture = Fixture::new().await;
    let request = keyed(Some(fixture.account), 1, 1, START);
    assert_eq!(fixture.records.keep_answer(&request, answer(b"first")).await.unwrap(), None);
    let first = Some(EarlierRequest::Answered(answer(b"first")));
    assert_eq!(fixture.records.keep_answer(&request, answer(b"second")).await.unwrap(), first);
    assert_eq!(fixture.records.earlier_request(&request).await.unwrap(), first);
    for (key, size, kept) in
        [(2, MAX_KEPT_ANSWER_BYTES, true), (3, MAX_KEPT_ANSWER_BYTES + 1, false)]
    {
        let request = keyed(Some(fixture.account), key, 1, START);
        let large = answer(&vec![7; size]);
        assert_eq!(fixture.records.keep_answer(&request, large.clone()).await.unwrap(), None);
        let earlier = fixture.records.earlier_request(&request).await.unwrap().unwrap();
        let expected =
            if kept { EarlierRequest::Answered(large) } else { EarlierRequest::AnswerTooLarge };
        assert_eq!(earlier, expected, "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_request_is_taken_over_under_its_id() {
    for seed in 0..10 {
        let fixture = Fixture::with_faults(seed, Faults::default()).await;
        let records = &fixture.records;
        fixture.memory.set_faults(Faults { lost_after_commit: 0.5, ..Faults::default() });
        let at = |now| keyed(Some(fixture.account), 1, 1, now);
        let [first, second, third] = [(); 3].map(|()| fixture.id_generator.id(START));
        let begun = records.begin_request(&at(START), first).await.unwrap();
        assert_eq!(begun, Begun::Now(first));
        let early = START.plus(MAX_REQUEST_TIME - Duration::from_millis(1));
        let begun = records.begin_request(&at(early), second).await.unwrap();
        assert_eq!(begun, Begun::Earlier(EarlierRequest::InProgress));
        let earlier = records.earlier_request(&at(early)).await.unwrap();
        assert_eq!(earlier, Some(EarlierRequest::InProgress));
        let late = START.plus(MAX_REQUEST_TIME);
        assert_eq!(records.earlier_request(&at(late)).await.unwrap(), None);
        assert_eq!(records.begin_request(&at(late), second).await.unwrap(), Begun::Now(first));
        // It is in progress again.
        let begun = records.begin_request(&at(late), third).await.unwrap();
        assert_eq!(begun, Begun::Earlier(EarlierRequest::InProgress));
        assert_eq!(records.keep_answer(&at(late), answer(b"done")).await.unwrap(), None);
        let done = EarlierRequest::Answered(answer(b"done"));
        let begun = records.begin_request(&at(late), third).await.unwrap();
        assert_eq!(begun, Begun::Earlier(done));
    }
}
