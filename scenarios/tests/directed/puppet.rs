//! A machine that says what a story tells it to say, and keeps what it is told: for peers that do what no correct one
//! does, and for orders of events that chance would take long to bring.

use std::collections::BTreeMap;

use cairn_core::id::{Address, ClusterId, ConnId, Peer, SessionId};
use cairn_core::machine::{Effects, Input, Machine, WakeReason};
use cairn_core::message::{FromServer, Message, ToServer};
use cairn_core::time::Time;
use runtime_sim::World;

/// The cluster of a puppet that plays the master.
pub(crate) const CLUSTER: ClusterId = ClusterId(0x0123_4567_89ab);

/// A puppet.
#[derive(Default)]
pub(crate) struct Puppet {
    /// Registers whoever asks, and gives leases for ever.
    plays_master: bool,
    heard: Vec<(Peer, Message)>,
    servers: BTreeMap<Address, (ConnId, FromServer, SessionId)>,
}

/// Something to say.
pub(crate) struct Line {
    to: Peer,
    message: Message,
}

impl Machine for Puppet {
    type Request = Line;
    type Response = ();

    fn handle(&mut self, _: Time, input: Input<Line>, effects: &mut Effects<()>) {
        match input {
            Input::Call { call, request } => {
                effects.send(request.to, request.message);
                effects.reply(call, ());
            }
            Input::Message { from, message } => {
                if let (true, Peer::Conn(conn), Message::FromServer(said)) =
                    (self.plays_master, &from, &message)
                {
                    self.serve(*conn, said, effects);
                }
                self.heard.push((from, message));
            }
            Input::Wake | Input::DiskDone { .. } | Input::PeerLost { .. } => {}
        }
    }

    fn next_wake(&self) -> Option<(Time, WakeReason)> {
        None
    }
}

impl Puppet {
    fn serve(&mut self, conn: ConnId, said: &FromServer, effects: &mut Effects<()>) {
        let answer = match said {
            FromServer::Register { address, .. } => {
                let session = SessionId(self.heard.len() as u64 + 1);
                self.servers.insert(address.clone(), (conn, said.clone(), session));
                ToServer::Registered { cluster: CLUSTER, session, heartbeat_ms: 100, block_report_ms: 1_000 }
            }
            FromServer::Heartbeat { sequence, .. } => {
                ToServer::HeartbeatAck { sequence: *sequence, lease_ms: 60_000 }
            }
            _ => return,
        };
        effects.send(Peer::Conn(conn), answer);
    }

    /// Starts one called `name`.
    pub(crate) fn start(world: &World, name: &str, plays_master: bool) {
        world.start_machine(name, 0, move |_| Puppet { plays_master, ..Puppet::default() });
    }

    /// Everything that it was told, in order.
    pub(crate) fn heard(world: &World, name: &str) -> Vec<Message> {
        let heard = |puppet: &Puppet| puppet.heard.iter().map(|(_, message)| message.clone()).collect();
        world.inspect(name, heard).expect("puppets live")
    }

    /// The connection, registration and session of a server that calls it master.
    pub(crate) fn server(world: &World, name: &str, server: &str) -> Option<(Peer, FromServer, SessionId)> {
        let known = |puppet: &Puppet| puppet.servers.get(&Address::new(server)).cloned();
        let (conn, registration, session) = world.inspect(name, known)??;
        Some((Peer::Conn(conn), registration, session))
    }

    /// Has it say something.
    pub(crate) async fn say(world: &World, name: &str, to: Peer, message: impl Into<Message>) {
        let line = Line { to, message: message.into() };
        let said: Option<()> = world.call(name, line).await;
        said.expect("puppets live");
    }
}
