use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use proxy_header::{ProxiedAddress, Tlv};

use super::*;
use crate::conversation::Conversation;
use crate::protocols::{BANNER, Framing, OkSession, Telnet};
use crate::reason::Reason;

type Met = Arc<Mutex<Vec<Option<Address>>>>;

/// A conversation whose inner session is the command's, and the clients that the inner sessions are made for.
fn start() -> (Conversation<impl Session>, Met) {
    let met = Met::default();
    let noted = Arc::clone(&met);
    let inner = || Telnet::new(OkSession::new(Framing::Lines));
    let proxy = Proxy::new(inner().sizes(), move |client| {
        noted.lock().unwrap().push(client);
        inner()
    });
    (Conversation::start(proxy), met)
}

/// The headers that name this client, in both versions. A client and a server of different families have none of version
/// 1, and so the server's address is of the client's family.
fn headers(client: SocketAddr, unique_id: &[u8]) -> [Vec<u8>; 2] {
    let server = SocketAddr::new(client.ip(), 8888);
    let mut header = ProxyHeader::with_address(ProxiedAddress::stream(client, server));
    let mut bytes = [Vec::new(), Vec::new()];
    header.encode_v1(&mut bytes[0]).unwrap();
    header.append_tlv(Tlv::UniqueId(unique_id.into()));
    header.encode_v2(&mut bytes[1]).unwrap();
    bytes
}

proptest! {
    #[test]
    fn a_header_that_is_split_anywhere_names_the_client(
        client in any::<SocketAddr>().prop_map(without_scope), unique_id in vec(any::<u8>(), 0..128),
        cut in any::<prop::sample::Index>(), byte_by_byte in any::<bool>(),
    ) {
        for header in headers(client, &unique_id) {
            let input = [&header[..], b"hello\r\n"].concat();
            let (mut conversation, met) = start();
            if byte_by_byte {
                input.chunks(1).for_each(|byte| conversation.send(byte));
            } else {
                let (first, second) = input.split_at(cut.index(input.len()));
                conversation.send(first);
                prop_assert_eq!(conversation.received().is_empty(), first.len() < header.len());
                conversation.send(second);
            }
            conversation.end_input();
            prop_assert_eq!(met.lock().unwrap().clone(), [Some(Address::from(client))]);
            prop_assert_eq!(conversation.ended(), Some(Reason::Finished));
        }
    }

    #[test]
    fn what_is_no_header_gets_no_byte(input in vec(any::<u8>(), 0..300), is_like_one in 0..3_usize) {
        let start_of_a_header: &[u8] = [b"".as_slice(), b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11"][is_like_one];
        let input = [start_of_a_header, &input].concat();
        prop_assume!(!matches!(Header::read(&input), Header::Complete(..)));
        let (mut conversation, met) = start();
        conversation.send(&input);
        conversation.end_input();
        prop_assert_eq!((conversation.received(), conversation.ended()), (vec![], Some(Reason::InvalidInput)));
        prop_assert!(met.lock().unwrap().is_empty());
    }
}

/// A header does not carry the scope of an IPv6 address.
fn without_scope(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

/// The property above chooses one place. This is every place.
#[test]
fn a_header_that_is_split_at_any_byte_is_followed_by_the_greeting_and_the_answers() {
    let client = "192.0.2.1:5000".parse().unwrap();
    for header in headers(client, b"unique") {
        for cut in 0..=header.len() {
            let (mut conversation, met) = start();
            conversation.send(&header[..cut]);
            conversation.send(&[&header[cut..], b"he\xff\xf1llo\n"].concat());
            let greeting = String::from_utf8_lossy(BANNER).replace('\n', "\r\n");
            assert_eq!(
                conversation.received(),
                [greeting.as_bytes(), b"OK...hello\r\n"].concat(),
                "at {cut}"
            );
            assert_eq!(*met.lock().unwrap(), [Some(Address::Ip(client))]);
        }
    }
}

#[test]
fn a_proxy_that_names_no_client_is_served() {
    let mut local = Vec::new();
    ProxyHeader::with_local().encode_v2(&mut local).unwrap();
    // From a Unix socket: two names of 108 bytes.
    let unix = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\xd8"[..], &[b'x'; 216]].concat();
    for header in [&local[..], b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", &unix] {
        let (mut conversation, met) = start();
        conversation.send(header);
        assert_eq!(*met.lock().unwrap(), [None]);
        assert!(conversation.received().ends_with(b"hit enter\r\n"));
    }
}

#[test]
fn half_a_header_is_waited_for_until_the_deadline() {
    for part in
        [&b""[..], b"P", b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 88", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00"]
    {
        let (mut conversation, _) = start();
        conversation.send(part);
        assert_eq!(conversation.deadline(), Some(PROXY_HEADER_TIMEOUT));
        conversation.pass_deadline();
        assert_eq!(conversation.ended(), Some(Reason::InvalidInput), "{part:?}");
        assert_eq!(conversation.received(), b"");
    }
}

#[test]
fn a_header_stops_its_deadline_and_leaves_that_of_the_inner_session() {
    struct Impatient(Timer);
    impl Session for Impatient {
        fn answer(&mut self, _: &mut [u8], _: &mut Buffer) -> Step {
            Step::NeedInput
        }
        fn timer(&mut self) -> Timer {
            mem::take(&mut self.0)
        }
    }
    let (mut conversation, _) = start();
    assert_eq!(conversation.deadline(), Some(PROXY_HEADER_TIMEOUT));
    conversation.send(b"PROXY UNKNOWN\r\n");
    assert_eq!(conversation.deadline(), None);

    let length = PROXY_HEADER_TIMEOUT * 2;
    let new_session = move |_| Impatient(Timer::Start(length));
    let mut conversation = Conversation::start(Proxy::new(Sizes::default(), new_session));
    conversation.send(b"PROXY UNKNOWN\r\n");
    assert_eq!(conversation.deadline(), Some(length));
    conversation.pass_deadline();
    conversation.end_input();
    assert_eq!(conversation.ended(), Some(Reason::Deadline));
}

#[test]
fn a_header_longer_than_the_limit_ends_the_connection() {
    let header = |fields: usize| {
        let length = u16::try_from(fields).unwrap().to_be_bytes();
        [&b"\r\n\r\n\0\r\nQUIT\n\x20\x00"[..], &length, &vec![0; fields]].concat()
    };
    let (mut conversation, met) = start();
    conversation.send(&header(PROXY_HEADER - 16));
    assert_eq!(met.lock().unwrap().len(), 1);

    let (mut conversation, met) = start();
    header(usize::from(u16::MAX)).chunks(1000).take(5).for_each(|chunk| conversation.send(chunk));
    assert_eq!(conversation.ended(), Some(Reason::InvalidInput));
    assert!(met.lock().unwrap().is_empty());
}

#[test]
fn a_datagrams_header_is_not_one_of_a_stream() {
    let address = ProxiedAddress::datagram("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
    let mut header = Vec::new();
    ProxyHeader::with_address(address).encode_v2(&mut header).unwrap();
    let (mut conversation, _) = start();
    conversation.send(&header);
    assert_eq!(conversation.ended(), Some(Reason::InvalidInput));
}

#[test]
fn a_stop_before_the_header_is_a_drain() {
    let (mut conversation, met) = start();
    conversation.send(b"PROXY");
    conversation.stop();
    conversation.end_input();
    assert_eq!((conversation.ended(), met.lock().unwrap().len()), (Some(Reason::Drained), 0));
}
