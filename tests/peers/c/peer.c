/* A C node that uses `ei`. It dials the daemon or waits for it, and then uses all services that such
 * a node can use.
 *
 *     peer dial|wait SHORT-NAME HOST COOKIE NODE-OF-THE-DAEMON
 *
 * Prints one line for each result, and exits with 0 if all are as expected. `ei` has no function for
 * links, so this file encodes the signal itself. `ei` does not support monitors. */

#include <arpa/inet.h>
#include <ei.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE 20000 /* ms */

static ei_cnode node;
static int fd;
static const char *us;

static void fail(const char *what)
{
    printf("FAILED %s (erl_errno %d)\n", what, erl_errno);
    exit(1);
}

static void check(int holds, const char *what)
{
    if (!holds)
        fail(what);
}

/* Waits for the next message except ticks. Returns its type. */
static int receive(erlang_msg *msg, ei_x_buff *in)
{
    for (;;) {
        in->index = 0;
        switch (ei_xreceive_msg_tmo(fd, msg, in, PATIENCE)) {
        case ERL_TICK:
            continue;
        case ERL_MSG:
            return (int)msg->msgtype;
        default:
            fail("nothing was received");
        }
    }
}

/* Sends {Label, {Self, Ref}, Request} to a registered name, and waits for {Ref, Answer}.
 * Returns the index of Answer. */
static int call(const char *label, const char *name, const ei_x_buff *request, ei_x_buff *answer)
{
    ei_x_buff out;
    erlang_ref ref, theirs;
    erlang_msg msg;
    int index = 0, version, arity;

    check(ei_make_ref(&node, &ref) == 0, "a reference");
    ei_x_new_with_version(&out);
    ei_x_encode_tuple_header(&out, 3);
    ei_x_encode_atom(&out, label);
    ei_x_encode_tuple_header(&out, 2);
    ei_x_encode_pid(&out, ei_self(&node));
    ei_x_encode_ref(&out, &ref);
    ei_x_append(&out, request);
    check(ei_reg_send(&node, fd, (char *)name, out.buff, out.index) == 0, "a request is sent");
    ei_x_free(&out);
    check(receive(&msg, answer) == ERL_SEND, "the answer is a message");
    check(ei_decode_version(answer->buff, &index, &version) == 0, "the answer has a version");
    check(ei_decode_tuple_header(answer->buff, &index, &arity) == 0 && arity == 2, "the answer is a pair");
    check(ei_decode_ref(answer->buff, &index, &theirs) == 0 && ei_cmp_refs(&ref, &theirs) == 0, "an answer to this request");
    return index;
}

static int is_atom(const ei_x_buff *in, int *index, const char *text)
{
    char atom[MAXATOMLEN_UTF8];
    return ei_decode_atom_as(in->buff, index, atom, sizeof atom, ERLANG_UTF8, NULL, NULL) == 0 && !strcmp(atom, text);
}

/* Does the same as net_adm:ping/1. */
static void ping(void)
{
    ei_x_buff request, answer;
    int index;

    ei_x_new(&request);
    ei_x_new(&answer);
    ei_x_format_wo_ver(&request, "{is_auth,~a}", ei_thisnodename(&node));
    index = call("$gen_call", "net_kernel", &request, &answer);
    check(is_atom(&answer, &index, "yes"), "pong");
    puts("pong");
}

/* Prints the names in {ok, [#{name := Name}]}. */
static void plugins(void)
{
    ei_x_buff request, answer;
    int index, arity, plugins, pairs, type, size;
    long length;
    char name[256];

    ei_x_new(&request);
    ei_x_new(&answer);
    ei_x_encode_atom(&request, "list");
    index = call("$gen_call", "hecate_plugins", &request, &answer);
    check(ei_decode_tuple_header(answer.buff, &index, &arity) == 0 && is_atom(&answer, &index, "ok"), "{ok, List}");
    check(ei_decode_list_header(answer.buff, &index, &plugins) == 0, "a list of plugins");
    for (; plugins > 0; plugins--) {
        check(ei_decode_map_header(answer.buff, &index, &pairs) == 0, "a plugin is a map");
        for (; pairs > 0; pairs--) {
            if (!is_atom(&answer, &index, "name")) {
                check(ei_skip_term(answer.buff, &index) == 0, "a value");
                continue;
            }
            ei_get_type(answer.buff, &index, &type, &size);
            check(size < (int)sizeof name && ei_decode_binary(answer.buff, &index, name, &length) == 0, "a name");
            printf("plugin %.*s\n", (int)length, name);
        }
    }
}

/* Calls a function with rpc:call/4, through `rex`. */
static void rpc(void)
{
    ei_x_buff args, answer;
    char path[1024];
    int index = 0;

    ei_x_new(&args);
    ei_x_new(&answer);
    ei_x_encode_empty_list(&args);
    check(ei_rpc(&node, fd, "shared_paths", "base_dir", args.buff, args.index, &answer) >= 0, "ei_rpc");
    check(ei_decode_string(answer.buff, &index, path) == 0, "a path");
    printf("base_dir %s\n", path);
}

/* Gets the pid of a registered name with sys:get_status/1. */
static void whereis(const char *name, erlang_pid *pid)
{
    ei_x_buff request, answer;
    int index, arity;

    ei_x_new(&request);
    ei_x_new(&answer);
    ei_x_encode_atom(&request, "get_status");
    index = call("system", name, &request, &answer);
    check(ei_decode_tuple_header(answer.buff, &index, &arity) == 0 && is_atom(&answer, &index, "status"), "a status");
    check(ei_decode_pid(answer.buff, &index, pid) == 0, "a pid");
}

/* Sends LINK {1, From, To}. */
static void link_to(const erlang_pid *pid)
{
    ei_x_buff out;
    unsigned char length[4] = {0};

    ei_x_new(&out);
    ei_x_append_buf(&out, (char *)length, 4);
    ei_x_append_buf(&out, "p", 1);
    ei_x_encode_version(&out);
    ei_x_encode_tuple_header(&out, 3);
    ei_x_encode_long(&out, ERL_LINK);
    ei_x_encode_pid(&out, ei_self(&node));
    ei_x_encode_pid(&out, pid);
    out.buff[2] = (char)((out.index - 4) >> 8);
    out.buff[3] = (char)(out.index - 4);
    check(write(fd, out.buff, (size_t)out.index) == out.index, "LINK was sent");
}

/* Ends a linked process, and checks its exit signal with the reason. */
static void links(void)
{
    ei_x_buff request, answer;
    erlang_pid pid, again;
    erlang_msg msg;
    int index;

    whereis("hecate_plugins", &pid);
    link_to(&pid);
    ei_x_new(&request);
    ei_x_new(&answer);
    ei_x_format_wo_ver(&request, "{terminate,enough}");
    index = call("system", "hecate_plugins", &request, &answer);
    check(is_atom(&answer, &index, "ok"), "the process ends");
    check(receive(&msg, &answer) == ERL_EXIT && ei_cmp_pids(&msg.from, &pid) == 0, "its exit signal");
    index = 0;
    check(is_atom(&answer, &index, "enough"), "its reason");
    whereis("hecate_plugins", &again);
    check(ei_cmp_pids(&pid, &again) != 0, "another process");
    puts("exit enough");
}

/* Acts as a scope of pg. The daemon does not monitor it, because `ei` closes a connection that
 * carries a monitor. */
static void groups(void)
{
    ei_x_buff out, in;
    erlang_msg msg;
    const char *expected[] = {"$gen_cast", "discover"};
    int i, index, version, arity;

    ei_x_new(&in);
    ei_x_new_with_version(&out);
    ei_x_encode_tuple_header(&out, 2);
    ei_x_encode_atom(&out, "discover");
    ei_x_encode_pid(&out, ei_self(&node));
    check(ei_reg_send(&node, fd, "pg", out.buff, out.index) == 0, "a message to pg");
    for (i = 0; i < 2; i++) {
        index = 0;
        check(receive(&msg, &in) == ERL_SEND, "a message of pg");
        check(ei_decode_version(in.buff, &index, &version) == 0, "it has a version");
        check(ei_decode_tuple_header(in.buff, &index, &arity) == 0 && is_atom(&in, &index, expected[i]), expected[i]);
    }
    puts("groups");
}

static void wait_for_a_connection(struct in_addr *loopback)
{
    ErlConnect peer;
    int port = 0, listener = ei_xlisten(&node, loopback, &port, 5);

    check(listener >= 0, "a port");
    check(ei_publish(&node, port) >= 0, "EPMD registers the name");
    fd = ei_accept_tmo(&node, listener, &peer, PATIENCE);
    check(fd >= 0, "a connection is accepted");
    check(!strcmp(peer.nodename, us), "a connection from the daemon");
}

int main(int argc, char **argv)
{
    struct in_addr loopback = {.s_addr = htonl(INADDR_LOOPBACK)};
    ei_x_buff message;
    char full[512];

    check(argc == 6, "five arguments");
    setvbuf(stdout, NULL, _IOLBF, 0);
    us = argv[5];
    ei_init();
    snprintf(full, sizeof full, "%s@%s", argv[2], argv[3]);
    check(ei_connect_xinit(&node, argv[3], argv[2], full, &loopback, argv[4], 7) == 0, "ei_connect_xinit");
    if (!strcmp(argv[1], "dial"))
        check((fd = ei_connect(&node, (char *)us)) >= 0, "ei_connect");
    else
        wait_for_a_connection(&loopback);
    puts("connected");
    ping();
    plugins();
    rpc();
    ei_x_new(&message);
    ei_x_format(&message, "[{hello,~i}]", 1);
    check(ei_reg_send(&node, fd, "nobody", message.buff, message.index) == 0, "a message to an unknown name");
    links();
    groups();
    ping();
    return 0;
}
