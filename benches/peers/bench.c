/* The C node in the wire bench, which uses `ei`. It connects to an Erlang node, answers calls,
 * reads messages, and sends messages on request.
 *
 *     bench SHORT-NAME HOST COOKIE NODE
 */

#include <arpa/inet.h>
#include <ei.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static ei_cnode node;
static int fd;

static void check(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "the C node failed: %s (erl_errno %d)\n", what, erl_errno);
        exit(1);
    }
}

/* Sends {Tag, yes} to the process in {'$gen_call', {Pid, Tag}, _} */
static void answer(const ei_x_buff *in, int index)
{
    ei_x_buff out;
    erlang_pid pid;
    erlang_ref ref;
    int arity;

    check(ei_decode_tuple_header(in->buff, &index, &arity) == 0 && ei_decode_pid(in->buff, &index, &pid) == 0
              && ei_decode_ref(in->buff, &index, &ref) == 0,
          "who calls");
    ei_x_new_with_version(&out);
    ei_x_encode_tuple_header(&out, 2);
    ei_x_encode_ref(&out, &ref);
    ei_x_encode_atom(&out, "yes");
    check(ei_send(fd, &pid, out.buff, out.index) == 0, "an answer is sent");
    ei_x_free(&out);
}

/* On {send, To, Size, Count}: sends Count messages {bench, Binary}, then {done, Begun}. */
static void send_all(const ei_x_buff *in, int index)
{
    ei_x_buff out;
    erlang_pid to;
    struct timespec now;
    unsigned long size, count;
    char *bytes;

    check(ei_decode_pid(in->buff, &index, &to) == 0 && ei_decode_ulong(in->buff, &index, &size) == 0
              && ei_decode_ulong(in->buff, &index, &count) == 0,
          "what to send");
    clock_gettime(CLOCK_REALTIME, &now);
    bytes = malloc(size);
    check(bytes != NULL, "memory");
    memset(bytes, 7, size);
    ei_x_new_with_version(&out);
    ei_x_encode_tuple_header(&out, 2);
    ei_x_encode_atom(&out, "bench");
    ei_x_encode_binary(&out, bytes, (long)size);
    for (; count > 0; count--)
        check(ei_send(fd, &to, out.buff, out.index) == 0, "a message is sent");
    ei_x_free(&out);
    free(bytes);
    ei_x_new_with_version(&out);
    ei_x_encode_tuple_header(&out, 2);
    ei_x_encode_atom(&out, "done");
    ei_x_encode_longlong(&out, now.tv_sec * 1000000000LL + now.tv_nsec);
    check(ei_send(fd, &to, out.buff, out.index) == 0, "the end is sent");
    ei_x_free(&out);
}

int main(int argc, char **argv)
{
    struct in_addr loopback = {.s_addr = htonl(INADDR_LOOPBACK)};
    ei_x_buff in;
    erlang_msg msg;
    char full[512], label[MAXATOMLEN_UTF8];
    int index, version, arity;

    check(argc == 5, "four arguments");
    ei_init();
    snprintf(full, sizeof full, "%s@%s", argv[1], argv[2]);
    check(ei_connect_xinit(&node, argv[2], argv[1], full, &loopback, argv[3], 7) == 0, "ei_connect_xinit");
    check((fd = ei_connect(&node, argv[4])) >= 0, "ei_connect");
    ei_x_new(&in);
    for (;;) {
        in.index = 0;
        switch (ei_xreceive_msg(fd, &msg, &in)) {
        case ERL_TICK:
            continue;
        case ERL_MSG:
            break;
        default:
            return 0; /* the bench has ended */
        }
        index = 0;
        if (ei_decode_version(in.buff, &index, &version) || ei_decode_tuple_header(in.buff, &index, &arity)
            || ei_decode_atom(in.buff, &index, label))
            continue;
        if (arity == 3 && !strcmp(label, "$gen_call"))
            answer(&in, index);
        else if (arity == 4 && !strcmp(label, "send"))
            send_all(&in, index);
    }
}
