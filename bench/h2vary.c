/* h2vary.c - HTTP/2 in clear text of which no two requests and no two answers are alike.
 *
 *   gcc -O2 -Wall -I DIR -o h2vary h2vary.c        (DIR holds huffman.h, which bench/tools.py writes)
 *
 *   h2vary load  -port N -c CONNS -m STREAMS -d SECONDS -size BYTES [-grpc]
 *   h2vary serve -port N -size BYTES          (gRPC: answers each call with its nonce, other bytes, and status 0)
 *
 * h2load sends the same head for ever, which a proxy may remember as a whole. Here the path, a cookie, an id, a trace and
 * a nonce differ in each request, and are said as nghttp2 says them: strings in Huffman code, fields put into the peer's
 * table, but for the path, the cookie and the nonce. What does not change is said by its index, until the others have
 * pushed it out of the table. In the answers an id, an etag and the body differ.
 *
 * An answer counts as right if its first head begins with ":status: 200", its body has BYTES bytes and begins with the nonce
 * of its request (for gRPC behind the 5 bytes of its prefix), and its stream ends in good order.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "huffman.h" /* static const struct { uint32_t code; uint8_t bits; } huffman[256] */

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, PRIORITY_FLAG = 32 };
#define TABLE 4096
#define SLOTS 4096                       /* streams of one connection that may be open at once; a power of two */
#define GRANT (1u << 30)
#define NONCE 32
#define GRACE 20000000000LL              /* ns that what is in flight at the end may take */
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static int port, nconn = 1, streams = 1, grpc;
static long size = 1024;
static double duration;

static void die(const char *f, ...) {
    va_list a; va_start(a, f); vfprintf(stderr, f, a); va_end(a); fputc('\n', stderr); exit(2);
}
static int64_t now_ns(void) {
    struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static uint64_t seed = 88172645463325252ULL;
static uint64_t rnd(void) { seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17; return seed; }
static void hex(char *to, int digits) {
    uint64_t r = 0;
    for (int i = 0; i < digits; i++, r >>= 4) { if (i % 16 == 0) r = rnd(); to[i] = "0123456789abcdef"[r & 15]; }
    to[digits] = 0;
}

/* ---- bytes ---- */
typedef struct { uint8_t *p; size_t off, len, cap; } buf; /* live: p[off..off+len) */
static void reserve(buf *b, size_t n) {
    if (b->off && (!b->len || b->off + b->len + n > b->cap)) { memmove(b->p, b->p + b->off, b->len); b->off = 0; }
    if (b->off + b->len + n > b->cap) {
        size_t c = b->cap ? b->cap : 4096;
        while (c < b->off + b->len + n) c *= 2;
        if (!(b->p = realloc(b->p, c))) die("out of memory");
        b->cap = c;
    }
}
static void put(buf *b, const void *d, size_t n) { reserve(b, n); memcpy(b->p + b->off + b->len, d, n); b->len += n; }
static void put8(buf *b, int v) { uint8_t x = v; put(b, &x, 1); }
static void be32(uint8_t *p, uint32_t v) { p[0] = v >> 24; p[1] = v >> 16; p[2] = v >> 8; p[3] = v; }
static uint32_t g32(const uint8_t *p) { return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
static void put_frame(buf *b, int type, int flags, uint32_t id, const void *payload, size_t n) {
    uint8_t h[9] = {n >> 16, n >> 8, n, type, flags}; be32(h + 5, id); put(b, h, 9); put(b, payload, n);
}
static void put_window(buf *b, uint32_t id, uint32_t n) { uint8_t x[4]; be32(x, n); put_frame(b, WINDOW_UPDATE, 0, id, x, 4); }

/* ---- HPACK: what we say ---- */
typedef struct { const char *name; int fixed; char value[160]; uint64_t seq, start; int known; } field;
typedef struct { uint64_t count, bytes; } table; /* entries put into the peer's table so far, and their size in it */
static void integer(buf *b, int first, int bits, uint32_t v) {
    uint32_t most = (1u << bits) - 1;
    if (v < most) { put8(b, first | v); return; }
    put8(b, first | most);
    for (v -= most; v >= 128; v >>= 7) put8(b, (v & 127) | 128);
    put8(b, v);
}
static void string(buf *b, const char *s) {
    size_t n = strlen(s), bits = 0; uint64_t acc = 0; int have = 0;
    for (size_t i = 0; i < n; i++) bits += huffman[(uint8_t)s[i]].bits;
    integer(b, 0x80, 7, (bits + 7) / 8);
    for (size_t i = 0; i < n; i++) {
        acc = acc << huffman[(uint8_t)s[i]].bits | huffman[(uint8_t)s[i]].code; have += huffman[(uint8_t)s[i]].bits;
        while (have >= 8) { have -= 8; put8(b, acc >> have & 255); }
    }
    if (have) put8(b, (acc << (8 - have) | ((1 << (8 - have)) - 1)) & 255);
}
static int held(const table *t, const field *f) { return f->known && t->bytes - f->start <= TABLE; }
static void say(buf *b, table *t, field *f, const char *value) { /* indexed if the peer has it, else put into its table */
    uint32_t index = 62 + (uint32_t)(t->count - 1 - f->seq); int name = f->fixed;
    if (held(t, f)) { if (!strcmp(f->value, value)) { integer(b, 0x80, 7, index); return; } if (!name) name = index; }
    integer(b, 0x40, 6, name);
    if (!name) string(b, f->name);
    string(b, value);
    f->known = 1; f->seq = t->count++; f->start = t->bytes; t->bytes += 32 + strlen(f->name) + strlen(value);
    snprintf(f->value, sizeof f->value, "%s", value);
}
static void say_only(buf *b, int fixed, const char *name, const char *value) { /* and leave the table as it is */
    integer(b, 0, 4, fixed);
    if (!fixed) string(b, name);
    string(b, value);
}

/* ---- a connection ---- */
typedef struct { uint32_t id; int64_t begun; long got; uint8_t first[5 + NONCE]; char nonce[NONCE + 1]; int open, status; } stream;
typedef struct {
    int fd, want_out, greeted, busy, most; uint32_t next; int64_t window; uint64_t taken;
    table t; field f[8]; stream s[SLOTS]; uint32_t *waiting; size_t nwaiting; buf in, out;
} conn;
static int ep, serving, stopping; static int64_t t_end;
static uint64_t requests, errors, mismatches;

#define SUB 128
static uint64_t hist[64 * SUB], hist_n; static double total_ns;
static void record(int64_t ns) { /* tenths of a microsecond, to three digits */
    uint64_t v = ns / 100; int e = v < SUB ? 0 : 63 - __builtin_clzll(v) - 6;
    hist[(size_t)e * SUB + (v >> e)]++; hist_n++; total_ns += ns;
}
static double pct(double q) {
    uint64_t want = q * hist_n + 0.5, c = 0;
    if (!want) want = 1;
    for (size_t i = 0; i < 64 * SUB; i++) if ((c += hist[i]) >= want) return (i % SUB + 0.5) * (double)(1ULL << i / SUB) / 10.0;
    return 0;
}

static const char *names[] = {":authority", "user-agent", "accept", "accept-encoding", "content-type", "te", "x-request-id", "traceparent"};
static const int fixed_names[] = {1, 58, 19, 16, 31, 0, 0, 0};
static void setup(conn *c, int fd) {
    int one = 1; setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->fd = fd; c->next = 1; c->window = 65535; c->most = streams;
    for (int i = 0; i < 8; i++) { c->f[i].name = names[i]; c->f[i].fixed = fixed_names[i]; }
    if (!serving) put(&c->out, preface, 24);
    /* no push, 1,024 streams, windows of 1 MiB */
    uint8_t s[] = {0, 2, 0, 0, 0, 0, 0, 3, 0, 0, 4, 0, 0, 4, 0, 16, 0, 0};
    put_frame(&c->out, SETTINGS, 0, 0, serving ? s + 6 : s, serving ? 12 : 18);
    put_window(&c->out, 0, GRANT);
}
static void ask(conn *c) {
    static buf b; char text[160], id[33], span[17]; stream *s = &c->s[c->next / 2 & (SLOTS - 1)];
    b.len = b.off = 0; *s = (stream){.id = c->next, .begun = now_ns(), .open = 1}; c->next += 2; c->busy++;
    hex(s->nonce, NONCE);
    put8(&b, grpc ? 0x83 : 0x82); put8(&b, 0x86);
    if (grpc) say_only(&b, 4, ":path", "/bench.Echo/Say");
    else { snprintf(text, sizeof text, "/api/v1/items/%u?page=%u", (unsigned)(rnd() >> 40), (unsigned)(rnd() >> 54)); say_only(&b, 4, ":path", text); }
    say(&b, &c->t, &c->f[0], "bench.test");
    say(&b, &c->t, &c->f[1], grpc ? "grpc-c/49.0.0 (linux; chttp2)" : "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0");
    if (grpc) { say(&b, &c->t, &c->f[4], "application/grpc"); say(&b, &c->t, &c->f[5], "trailers"); }
    else {
        say(&b, &c->t, &c->f[2], "application/json"); say(&b, &c->t, &c->f[3], "gzip, deflate, br");
        hex(id, 32); snprintf(text, sizeof text, "session=%s; theme=dark", id); say_only(&b, 32, "cookie", text);
    }
    hex(id, 32); say(&b, &c->t, &c->f[6], id);
    hex(id, 32); hex(span, 16); snprintf(text, sizeof text, "00-%s-%s-01", id, span); say(&b, &c->t, &c->f[7], text);
    if (!grpc) say_only(&b, 0, "x-nonce", s->nonce);
    put_frame(&c->out, HEADERS, END_HEADERS | (grpc ? 0 : END_STREAM), s->id, b.p, b.len);
    if (grpc) {
        static uint8_t message[65536]; be32(message + 1, size - 5); memcpy(message + 5, s->nonce, NONCE);
        for (long i = 5 + NONCE; i + 8 <= size; i += 8) { uint64_t r = rnd(); memcpy(message + i, &r, 8); }
        put_frame(&c->out, DATA, END_STREAM, s->id, message, size); c->window -= size;
    }
}
static void reply(conn *c, uint32_t id) {
    static buf b; static uint8_t message[65536]; char text[64]; stream *s = &c->s[id / 2 & (SLOTS - 1)];
    b.len = b.off = 0; s->open = 0;
    put8(&b, 0x88); say(&b, &c->t, &c->f[4], "application/grpc"); hex(text, 32); say(&b, &c->t, &c->f[6], text);
    hex(text, 16); say_only(&b, 34, "etag", text);
    put_frame(&c->out, HEADERS, END_HEADERS, id, b.p, b.len);
    be32(message + 1, size - 5); memcpy(message + 5, s->first + 5, NONCE);
    for (long i = 5 + NONCE; i + 8 <= size; i += 8) { uint64_t r = rnd(); memcpy(message + i, &r, 8); }
    put_frame(&c->out, DATA, 0, id, message, size); c->window -= size;
    b.len = 0; say_only(&b, 0, "grpc-status", "0");
    put_frame(&c->out, HEADERS, END_HEADERS | END_STREAM, id, b.p, b.len);
}
static void ended(conn *c, stream *s, int good) {
    if (!s->open) return;
    s->open = 0;
    if (serving) { /* first come, first served */
        c->waiting = realloc(c->waiting, (c->nwaiting + 1) * sizeof *c->waiting); c->waiting[c->nwaiting++] = s->id; return;
    }
    c->busy--; requests++; record(now_ns() - s->begun);
    if (!good || !s->status) errors++;
    else if (s->got != size || memcmp(s->first + (grpc ? 5 : 0), s->nonce, NONCE)) mismatches++;
}
/* Take one frame; its length, 0 if it has not come as a whole, -1 if the connection is over. */
static long take(conn *c, const uint8_t *p, size_t n) {
    if (n < 9) return 0;
    size_t len = (size_t)p[0] << 16 | p[1] << 8 | p[2]; int type = p[3], flags = p[4]; uint32_t id = g32(p + 5) & 0x7fffffff;
    if (len > 1 << 20) return -1;
    if (n < 9 + len) return 0;
    const uint8_t *q = p + 9, *end = q + len; stream *s = &c->s[id / 2 & (SLOTS - 1)];
    if (serving && type == HEADERS && (!s->open || s->id != id)) *s = (stream){.id = id, .open = 1};
    if ((type == DATA || type == HEADERS) && flags & PADDED && len) { end -= *q++; if (end < q) return -1; }
    if (type == HEADERS && flags & PRIORITY_FLAG) q += 5;
    if (type == HEADERS && s->id == id) {
        while (q < end && *q >> 5 == 1) q++; /* a new size of the table, of one byte where it is small */
        if (!s->status) s->status = q < end && *q == 0x88;
        if (flags & END_STREAM) ended(c, s, 1);
    } else if (type == DATA) {
        c->taken += len;
        if (c->taken > GRANT / 2) { put_window(&c->out, 0, c->taken); c->taken = 0; }
        if (s->id == id && s->open) {
            for (long at = s->got; at < 5 + NONCE && at - s->got < end - q; at++) s->first[at] = q[at - s->got];
            s->got += end - q;
            if (flags & END_STREAM) ended(c, s, 1);
        }
    } else if (type == RST_STREAM && s->id == id) { if (serving) s->open = 0; else ended(c, s, 0); }
    else if (type == PING && !(flags & ACK)) put_frame(&c->out, PING, ACK, 0, q, 8);
    else if (type == WINDOW_UPDATE && !id) c->window += g32(q) & 0x7fffffff;
    else if (type == GOAWAY) return serving ? -1 : (errors++, -1);
    else if (type == SETTINGS && !(flags & ACK)) {
        for (; q + 6 <= end; q += 6) {
            uint32_t v = g32(q + 2); int key = q[0] << 8 | q[1];
            if (key == 1 && v < TABLE) die("a table of %u bytes is not supported", v);
            if (key == 3 && v < (uint32_t)c->most) c->most = v;
        }
        put_frame(&c->out, SETTINGS, ACK, 0, "", 0); c->greeted = 1;
    }
    return 9 + len;
}
static int work(conn *c, uint32_t events) { /* 0: the connection is over */
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        reserve(&c->in, 65536);
        ssize_t r = read(c->fd, c->in.p + c->in.off + c->in.len, 65536); long l;
        if (r == 0 || (r < 0 && errno != EAGAIN)) return 0;
        if (r > 0) c->in.len += r;
        if (serving && !c->greeted && c->in.len >= 24 && !memcmp(c->in.p + c->in.off, "PRI", 3)) { c->in.off += 24; c->in.len -= 24; }
        while (c->in.len && (l = take(c, c->in.p + c->in.off, c->in.len)) != 0) {
            if (l < 0) return 0;
            c->in.off += l; c->in.len -= l;
        }
    }
    size_t done = 0;
    while (serving && done < c->nwaiting && c->window >= size) reply(c, c->waiting[done++]);
    if (done) { c->nwaiting -= done; memmove(c->waiting, c->waiting + done, c->nwaiting * sizeof *c->waiting); }
    while (!serving && !stopping && c->greeted && c->busy < c->most && c->window >= size && c->next < 0x7ffffff0) ask(c);
    while (c->out.len) {
        ssize_t r = send(c->fd, c->out.p + c->out.off, c->out.len, MSG_NOSIGNAL);
        if (r < 0 && errno != EAGAIN) return 0;
        if (r < 0) break;
        c->out.off += r; c->out.len -= r;
    }
    if (c->want_out != (c->out.len > 0)) {
        c->want_out = c->out.len > 0; struct epoll_event ev = {.events = EPOLLIN | (c->want_out ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
    }
    return 1;
}
static conn *joined(int fd) {
    conn *c = calloc(1, sizeof *c); struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    setup(c, fd); epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
    if (!work(c, 0)) die("closed at once");
    return c;
}
int main(int argc, char **argv) {
    if (argc < 2) die("usage: h2vary load|serve ... (see the top of h2vary.c)");
    for (int i = 2; i < argc; i++) {
        const char *o = argv[i] + 1, *v;
        if (!strcmp(o, "grpc")) { grpc = 1; continue; }
        if (++i >= argc) die("%s needs a value", o);
        v = argv[i];
        if (!strcmp(o, "port")) port = atoi(v);
        else if (!strcmp(o, "c")) nconn = atoi(v);
        else if (!strcmp(o, "m")) streams = atoi(v);
        else if (!strcmp(o, "d")) duration = atof(v);
        else if (!strcmp(o, "size")) size = atol(v);
        else die("unknown option %s", o);
    }
    if (size < 5 + NONCE || size > 16384) die("size must be from %d to 16384", 5 + NONCE);
    if (streams < 1 || streams > SLOTS / 4) die("streams must be from 1 to %d", SLOTS / 4);
    seed ^= (uint64_t)now_ns() << 20 ^ getpid();
    serving = !strcmp(argv[1], "serve"); grpc |= serving; ep = epoll_create1(0); signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event evs[256], ev = {.events = EPOLLIN}; int lfd = -1, one = 1, alive = nconn;
    if (serving) {
        lfd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(lfd, (void *)&a, sizeof a) || listen(lfd, 4096)) die("listen: %s", strerror(errno));
        epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &ev);
    } else if (duration <= 0) die("give -d");
    conn **cs = calloc(nconn, sizeof *cs);
    for (int i = 0; !serving && i < nconn; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (void *)&a, sizeof a)) die("connect: %s", strerror(errno));
        struct timeval none = {0, 1}; setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none); setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
        cs[i] = joined(fd);
    }
    int64_t t0 = now_ns(); t_end = t0 + (int64_t)(duration * 1e9);
    for (;;) {
        int64_t t = now_ns();
        if (!serving && t >= t_end && !stopping) stopping = 1;
        if (stopping) {
            int busy = 0; for (int i = 0; i < nconn; i++) busy += cs[i]->fd >= 0 ? cs[i]->busy : 0;
            if (!busy || t > t_end + GRACE) { errors += busy; break; }
        }
        if (!serving && !alive) break;
        int n = epoll_wait(ep, evs, 256, serving ? -1 : 20);
        for (int i = 0; i < n; i++) {
            conn *c = evs[i].data.ptr; int fd;
            if (!c) { while ((fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK)) >= 0) joined(fd); continue; }
            if (work(c, evs[i].events)) continue;
            epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL); close(c->fd); c->fd = -1; alive--; errors += c->busy; c->busy = 0;
            if (serving) { free(c->in.p); free(c->out.p); free(c->waiting); free(c); }
        }
    }
    if (alive < nconn) errors += nconn - alive;
    double wall = ((stopping ? t_end : now_ns()) - t0) / 1e9;
    printf("{\"requests\":%llu,\"seconds\":%.3f,\"errors\":%llu,\"mismatches\":%llu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"mean_us\":%.1f}\n", (unsigned long long)requests,
           wall, (unsigned long long)errors, (unsigned long long)mismatches, pct(.5), pct(.99), hist_n ? total_ns / hist_n / 1e3 : 0.0);
    return 0;
}
