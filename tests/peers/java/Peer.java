import com.ericsson.otp.erlang.*;

/**
 * A Java node that uses jinterface. It dials the daemon or waits for it, and then uses all services
 * that such a node can use.
 *
 * <pre>java -cp OtpErlang.jar Peer.java dial|wait SHORT-NAME HOST COOKIE NODE-OF-THE-DAEMON</pre>
 *
 * Prints one line for each result, and exits with 0 if all are as expected. jinterface supports links,
 * but not monitors.
 */
public final class Peer {
    private static final long PATIENCE = 20_000;

    private final OtpNode node;
    private final OtpMbox mbox;
    private final String us;

    private Peer(OtpNode node, String us) {
        this.node = node;
        this.mbox = node.createMbox();
        this.us = us;
    }

    public static void main(String[] args) throws Exception {
        String short_ = args[1], host = args[2], cookie = args[3], us = args[4];
        Object up = new Object();
        boolean[] accepted = {false};
        OtpNode node = new OtpNode(short_ + "@" + host, cookie);
        node.registerStatusHandler(new OtpNodeStatus() {
            @Override
            public void remoteStatus(String name, boolean isUp, Object info) {
                synchronized (up) {
                    accepted[0] |= isUp && name.equals(us);
                    up.notifyAll();
                }
            }
        });
        if (args[0].equals("wait")) {
            synchronized (up) {
                if (!accepted[0]) up.wait(PATIENCE);
            }
            check(accepted[0], "the daemon connects");
        }
        // A ping connects to the node if it is not connected yet.
        Peer peer = new Peer(node, us);
        peer.ping();
        System.out.println("connected");
        peer.plugins();
        peer.rpc(new OtpSelf(short_ + "_rpc@" + host, cookie));
        peer.mbox.send("nobody", us, atom("hello"));
        peer.links();
        peer.groups();
        peer.ping();
        System.exit(0);
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            System.out.println("FAILED " + what);
            System.exit(1);
        }
    }

    private static OtpErlangAtom atom(String text) {
        return new OtpErlangAtom(text);
    }

    private static OtpErlangTuple tuple(OtpErlangObject... elements) {
        return new OtpErlangTuple(elements);
    }

    /** Does the same as {@code net_adm:ping/1}. */
    private void ping() {
        check(node.ping(us, PATIENCE), "pong");
        System.out.println("pong");
    }

    private OtpErlangObject call(String label, String name, OtpErlangObject request) throws Exception {
        OtpErlangRef ref = node.createRef();
        mbox.send(name, us, tuple(atom(label), tuple(mbox.self(), ref), request));
        OtpErlangObject answer = mbox.receive(PATIENCE);
        check(answer instanceof OtpErlangTuple && ((OtpErlangTuple) answer).elementAt(0).equals(ref), "an answer: " + answer);
        return ((OtpErlangTuple) answer).elementAt(1);
    }

    /** Prints the names in {@code {ok, [#{name := Name}]}}. */
    private void plugins() throws Exception {
        OtpErlangTuple answer = (OtpErlangTuple) call("$gen_call", "hecate_plugins", atom("list"));
        check(answer.elementAt(0).equals(atom("ok")), "{ok, List}: " + answer);
        for (OtpErlangObject plugin : (OtpErlangList) answer.elementAt(1)) {
            OtpErlangBinary name = (OtpErlangBinary) ((OtpErlangMap) plugin).get(atom("name"));
            System.out.println("plugin " + new String(name.binaryValue(), "UTF-8"));
        }
    }

    /** Calls a function with {@code rpc:call/4}, over the connection of another node. */
    private void rpc(OtpSelf self) throws Exception {
        OtpConnection connection = self.connect(new OtpPeer(us));
        connection.sendRPC("shared_paths", "base_dir", new OtpErlangObject[] {});
        System.out.println("base_dir " + ((OtpErlangString) connection.receiveRPC()).stringValue());
        connection.close();
    }

    private OtpErlangPid whereis(String name) throws Exception {
        return (OtpErlangPid) ((OtpErlangTuple) call("system", name, atom("get_status"))).elementAt(1);
    }

    /** Ends linked processes, and checks their exit signals. An unlinked process sends none. */
    private void links() throws Exception {
        OtpErlangObject terminate = tuple(atom("terminate"), atom("enough"));
        OtpErlangPid pid = whereis("hecate_plugins");
        mbox.exit(pid, "crash");
        mbox.link(pid);
        check(call("system", "hecate_plugins", terminate).equals(atom("ok")), "the process ends");
        try {
            check(false, "an exit signal, not " + mbox.receive(PATIENCE));
        } catch (OtpErlangExit exit) {
            check(exit.pid().equals(pid), "its exit signal");
            System.out.println("exit " + exit.reason());
        }
        OtpErlangPid again = whereis("hecate_plugins");
        check(!again.equals(pid), "another process");
        mbox.link(again);
        mbox.unlink(again);
        check(call("system", "hecate_plugins", terminate).equals(atom("ok")), "the process ends again");
        check(!whereis("hecate_plugins").equals(again), "another process, and no signal from the last one");
        mbox.link(pid);
        try {
            check(false, "an exit signal, not " + mbox.receive(PATIENCE));
        } catch (OtpErlangExit exit) {
            System.out.println("exit " + exit.reason());
        }
    }

    /**
     * Acts as a scope of pg. The daemon does not monitor it, because jinterface closes a connection
     * that carries a monitor.
     */
    private void groups() throws Exception {
        mbox.send("pg", us, tuple(atom("discover"), mbox.self()));
        OtpErlangTuple sync = (OtpErlangTuple) mbox.receive(PATIENCE);
        check(sync.elementAt(0).equals(atom("$gen_cast")), "the members of the groups: " + sync);
        OtpErlangTuple discover = (OtpErlangTuple) mbox.receive(PATIENCE);
        check(discover.elementAt(0).equals(atom("discover")), "a discover message: " + discover);
        System.out.println("groups " + ((OtpErlangList) ((OtpErlangTuple) sync.elementAt(1)).elementAt(2)).arity());
    }
}
