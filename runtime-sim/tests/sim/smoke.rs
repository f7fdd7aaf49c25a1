use bytes::Bytes;
use cairn_core::client::{ClientRequest, ClientResponse};
use cairn_core::config::{ChunkserverConfig, ClientConfig, MasterConfig};
use cairn_core::defect::Defects;
use cairn_core::id::HandleId;
use cairn_core::message::{Identity, StorageOptions};
use cairn_core::time::Span;
use runtime_sim::{ClientHandle, Options, TraceMode, World, run};

const CHUNK: u64 = 256 * 1024;

fn start(world: &World) -> ClientHandle {
    let master = MasterConfig {
        chunk_bytes: CHUNK,
        startup_grace_ms: 2_000,
        min_free_bytes: 1 << 20,
        ..MasterConfig::default()
    };
    world.start_master("m", master, Defects::none());
    for n in 1..=3 {
        let config = ChunkserverConfig { reserve_bytes: 1 << 20, ..ChunkserverConfig::default() };
        world.start_chunkserver(&format!("cs{n}"), &format!("r{n}"), 2, config, &["m"], Defects::none());
    }
    let config = ClientConfig { frame_bytes: 64 * 1024, ..ClientConfig::default() };
    let root = Identity { user: "root".into(), groups: vec!["root".into()] };
    world.start_client("c", config, root, &["m"], Defects::none())
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 % 251) as u8 ^ (i >> 13) as u8).collect()
}

async fn create(client: &ClientHandle, path: &str) -> HandleId {
    let request = ClientRequest::Create {
        path: path.into(),
        replace: false,
        mode: 0o644,
        options: StorageOptions::default(),
    };
    match client.call(request).await {
        Ok(ClientResponse::Created { handle, .. }) => handle,
        other => panic!("create: {other:?}"),
    }
}

async fn put(client: &ClientHandle, path: &str, bytes: &[u8]) {
    let handle = create(client, path).await;
    for piece in bytes.chunks(100_000) {
        let data = Bytes::copy_from_slice(piece);
        assert_eq!(client.call(ClientRequest::Write { handle, data }).await, Ok(ClientResponse::Done));
    }
    match client.call(ClientRequest::Close { handle }).await {
        Ok(ClientResponse::Status(status)) => assert_eq!(status.length, bytes.len() as u64),
        other => panic!("close: {other:?}"),
    }
}

async fn get(client: &ClientHandle, path: &str) -> Vec<u8> {
    let opened = client.call(ClientRequest::Open { path: path.into() }).await;
    let Ok(ClientResponse::Opened { handle, length }) = opened else { panic!("open: {opened:?}") };
    let mut all = Vec::new();
    while (all.len() as u64) < length {
        let offset = all.len() as u64;
        match client.call(ClientRequest::Read { handle, offset, length: 300_000 }).await {
            Ok(ClientResponse::Data(pieces)) => {
                assert!(
                    pieces.iter().any(|piece| !piece.is_empty()),
                    "an empty read at {offset} of {length}"
                );
                pieces.iter().for_each(|piece| all.extend_from_slice(piece));
            }
            other => panic!("read at {offset}: {other:?}"),
        }
    }
    all
}

fn told<F, Fut>(seed: u64, story: F)
where
    F: FnOnce(World, ClientHandle) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let options =
        Options { trace: TraceMode::Full, simulated_limit: Span::from_ms(600_000), ..Options::default() };
    let outcome = run(seed, options, |world| async move {
        let client = start(&world);
        world.sleep(Span::from_ms(5_000)).await;
        story(world, client).await;
    });
    if let Err(failure) = outcome.result {
        let lines: Vec<&str> = outcome.trace.lines().collect();
        let tail = lines[lines.len().saturating_sub(150)..].join("\n");
        panic!("seed {seed}: {failure}\n{tail}");
    }
}

#[test]
fn a_run_that_grows_without_bound_ends() {
    let story = |world: World| async move {
        let client = start(&world);
        world.sleep(Span::from_ms(5_000)).await;
        put(&client, "/a", &content(CHUNK as usize)).await;
    };
    let limited = |options: Options| run(1, options, story);
    let free = limited(Options::default());
    assert_eq!(free.result, Ok(()));
    let cases = [
        (Options { inputs_limit: free.inputs, ..Options::default() }, None),
        (Options { inputs_limit: free.inputs / 2, ..Options::default() }, Some("inputs")),
        (Options { events_limit: 3, ..Options::default() }, Some("under way")),
        (Options { trace: TraceMode::Full, trace_limit: 10_000, ..Options::default() }, Some("trace")),
    ];
    for (options, which) in cases {
        let found = limited(options).result.err();
        assert!(found.as_ref().is_none_or(|failure| failure.limit), "{found:?}");
        match (&found, which) {
            (Some(failure), Some(which)) => assert!(failure.message.contains(which), "{failure}"),
            (found, which) => assert!(found.is_none() && which.is_none(), "{found:?}, not {which:?}"),
        }
    }
}

#[test]
fn what_is_put_can_be_got() {
    for seed in 0..5 {
        told(seed, |_, client| async move {
            let bytes = content(3 * CHUNK as usize + 12_345);
            put(&client, "/a", &bytes).await;
            put(&client, "/empty", &[]).await;
            assert!(get(&client, "/a").await == bytes, "other bytes came back");
            assert!(get(&client, "/empty").await.is_empty());
        });
    }
}

#[test]
fn a_file_survives_power_cuts_of_all_machines() {
    for seed in 0..5 {
        told(seed, |world, client| async move {
            let bytes = content(2 * CHUNK as usize + 77);
            put(&client, "/a", &bytes).await;
            for name in ["m", "cs1", "cs2", "cs3"] {
                world.power_cut(name);
            }
            world.sleep(Span::from_ms(1_000)).await;
            for name in ["cs1", "cs2", "cs3", "m"] {
                world.restart(name);
            }
            world.sleep(Span::from_ms(20_000)).await;
            assert!(get(&client, "/a").await == bytes, "other bytes came back");
        });
    }
}

#[test]
fn a_writer_goes_on_when_a_server_dies() {
    for seed in 0..5 {
        told(seed, |world, client| async move {
            let bytes = content(4 * CHUNK as usize);
            let handle = create(&client, "/a").await;
            for (n, piece) in bytes.chunks(64 * 1024).enumerate() {
                if n == 5 {
                    world.kill("cs2");
                }
                let data = Bytes::copy_from_slice(piece);
                assert_eq!(
                    client.call(ClientRequest::Write { handle, data }).await,
                    Ok(ClientResponse::Done)
                );
            }
            let closed = client.call(ClientRequest::Close { handle }).await;
            assert!(matches!(closed, Ok(ClientResponse::Status(_))), "{closed:?}");
            assert!(get(&client, "/a").await == bytes, "other bytes came back");
        });
    }
}
