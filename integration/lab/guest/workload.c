/*
 * Guest workloads that know the truth about their own memory use.
 *
 *   workload [--port DEVICE|-|none] [--console FILE] NAME [KEY=VALUE ...]
 *
 * Three processes, so that a guest in trouble still answers:
 *   control     the channel (one request line, one JSON line back) and the periodic report; locked in
 *               memory, never a victim of the OOM killer, and never touching the workload's memory
 *   supervisor  starts the worker again when it was killed
 *   worker      does the work; the only one that uses memory to speak of
 * They share one page of counters and parameters, and a futex by which control wakes the worker:
 * nothing polls, because the CPU below is emulated and shared.
 *
 * It says nothing to the host of its memory: that is the balloon driver's part, or liar.c's beside it.
 *
 * Sizes take K, M or G; times are seconds and, like rates, take three decimals.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define WORDS (PAGE / sizeof(uint64_t))
#define TOUCH_CHUNK 64u /* page touches under one clock reading: a touch is cheaper than the clock */
#define READ_CHUNK 16u
#define LINE_MAX_BYTES 4096
#define NEVER UINT64_MAX
#define SECOND 1000000ull

/* ---------------------------------------------------------------- parameters */

enum param {
	P_TOTAL, P_HOT, P_HZ, P_RATE, P_EVERY, P_FILES, P_BASE, P_WAKE, P_HOLD, P_AFTER, P_KEYS, P_VALUE,
	P_THETA, P_SCATTER, P_SEED, P_REPORT, P_COUNT
};
enum unit { BYTES, MILLI, NUMBER }; /* MILLI: a decimal number, kept in thousandths */

static const struct {
	const char *name;
	enum unit unit;
	bool live; /* may be changed over the channel */
} params[P_COUNT] = {
	[P_TOTAL] = { "total", BYTES, false },   [P_HOT] = { "hot", BYTES, true },
	[P_HZ] = { "hz", MILLI, true },          [P_RATE] = { "rate", MILLI, true },
	[P_EVERY] = { "every", MILLI, true },    [P_FILES] = { "files", BYTES, false },
	[P_BASE] = { "base", BYTES, false },     [P_WAKE] = { "wake", MILLI, false },
	[P_HOLD] = { "hold", MILLI, true },      [P_AFTER] = { "after", MILLI, false },
	[P_KEYS] = { "keys", NUMBER, false },    [P_VALUE] = { "value", BYTES, false },
	[P_THETA] = { "theta", MILLI, false },   [P_SCATTER] = { "scatter", NUMBER, false },
	[P_SEED] = { "seed", NUMBER, false },    [P_REPORT] = { "report", MILLI, true },
};

static void run_idle(void);
static void run_hotset(void);
static void run_phases(void);
static void run_pagecache(void);
static void run_kv(void);
static void run_hog(void);
static void run_freed(void);
static void run_frag(void);

/* The defaults also say which parameters a workload takes. */
static const struct workload {
	const char *name;
	void (*run)(void);
	unsigned max_ops; /* how many operations one latency sample covers */
	bool wakes;
	const char *defaults;
} workloads[] = {
	{ "idle", run_idle, TOUCH_CHUNK, false, "total=0" },
	{ "hotset", run_hotset, TOUCH_CHUNK, false, "total=300M hot=64M hz=2 rate=0" },
	{ "phases", run_phases, TOUCH_CHUNK, true, "total=300M hot=64M every=60 hz=2 rate=0" },
	{ "pagecache", run_pagecache, READ_CHUNK, false, "files=200M hot=32M hz=0.5 rate=0" },
	{ "kv", run_kv, 1, false, "keys=50000 value=1K rate=200 theta=0.99 scatter=0" },
	{ "hog", run_hog, TOUCH_CHUNK, true, "total=384M base=32M wake=0 hold=0 hz=1 rate=0" },
	{ "freed", run_freed, TOUCH_CHUNK, true, "total=300M after=20" },
	{ "frag", run_frag, TOUCH_CHUNK, true, "total=300M after=20" },
};
/* A report is a few hundred characters, and each costs an emulated host one or two exits of the guest. */
static const char common_defaults[] = "seed=0 report=30";

static const struct workload *self_workload = &workloads[0];
static char server_path[256] = "/usr/bin/memcached";
static char device_path[256] = "/dev/vda";
static char config_error[160];

/* ---------------------------------------------------------------- shared state */

enum phase {
	PH_START, PH_FILL, PH_IDLE, PH_TOUCH, PH_READ, PH_SERVE, PH_BASE, PH_GROW, PH_FULL, PH_HELD, PH_FREED,
	PH_DEAD, PH_ERROR
};
static const char *const phase_names[] = { "start", "fill", "idle", "touch", "read",  "serve", "base",
					   "grow",  "full", "held", "freed", "dead", "error" };

/* Two readers ask for "since the last time": the console report and the channel's stat. */
enum window { W_REPORT, W_STAT, W_COUNT };

struct shared {
	_Atomic uint32_t seq; /* the futex: counts commands */
	_Atomic uint32_t paused, wakes, phase, phase_no, restarts, server_restarts;
	_Atomic int32_t worker, server;
	_Atomic uint64_t param[P_COUNT];
	_Atomic uint64_t ops, held, hot, hot_from, hot_pages_bytes; /* the truth, kept by the worker */
	_Atomic uint64_t max_us[W_COUNT], pass_us[W_COUNT], started; /* started: of the sample under way, or 0 */
	_Atomic uint64_t errors, misses, need_us, majflt_past;
	_Atomic uint64_t extra_want, extra_have;
};
static struct shared *sh;
static int console_fd = 2;
static uint64_t seed, start_us;

#define GET(field) atomic_load_explicit(&sh->field, memory_order_relaxed)
#define SET(field, value) atomic_store_explicit(&sh->field, (value), memory_order_relaxed)
#define ADD(field, value) atomic_fetch_add_explicit(&sh->field, (value), memory_order_relaxed)

static uint64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec / 1000;
}

static void sleep_us(uint64_t us)
{
	struct timespec t = { (time_t)(us / SECOND), (long)(us % SECOND) * 1000 };
	nanosleep(&t, NULL);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Sleeps until `deadline`, or until a command arrives that was not yet there when `seq` was read. */
static void sleep_until(uint64_t deadline, uint32_t seq)
{
	struct timespec t, *timeout = NULL;
	if (deadline != NEVER) {
		uint64_t now = now_us();
		if (deadline <= now)
			return;
		t.tv_sec = (time_t)((deadline - now) / SECOND);
		t.tv_nsec = (long)((deadline - now) % SECOND) * 1000;
		timeout = &t;
	}
	syscall(SYS_futex, &sh->seq, FUTEX_WAIT, seq, timeout, NULL, 0);
}

static void tell_worker(void)
{
	atomic_fetch_add(&sh->seq, 1);
	syscall(SYS_futex, &sh->seq, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static uint32_t command_seq(void)
{
	return atomic_load(&sh->seq);
}

static void wait_unpaused(void)
{
	for (;;) {
		uint32_t seq = command_seq();
		if (!GET(paused))
			return;
		sleep_until(NEVER, seq);
	}
}

/* ---------------------------------------------------------------- output */

struct buf {
	size_t len;
	char text[2048];
};

__attribute__((format(printf, 2, 3))) static void add(struct buf *b, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	size_t room = sizeof b->text - b->len;
	int n = vsnprintf(b->text + b->len, room, format, args);
	va_end(args);
	if (n > 0)
		b->len += min_u64((uint64_t)n, room - 1);
}

/* Input goes back into JSON only through here. */
static void add_safe(struct buf *b, const char *s, size_t most)
{
	for (; *s && most; s++, most--)
		add(b, "%c", *s > ' ' && *s < 127 && *s != '"' && *s != '\\' ? *s : '?');
}

static void add_head(struct buf *b)
{
	uint64_t t = now_us();
	add(b, "\"t\":%llu.%03llu,\"workload\":\"%s\"", (unsigned long long)(t / SECOND),
	    (unsigned long long)(t % SECOND / 1000), self_workload->name);
}

/* One write per line, so that lines of several processes do not mix. */
static void print_line(struct buf *b)
{
	add(b, "\n");
	while (write(console_fd, b->text, b->len) < 0 && errno == EINTR)
		;
}

__attribute__((format(printf, 2, 3))) static void event(const char *name, const char *format, ...)
{
	struct buf b = { 0 };
	char rest[512];
	va_list args;
	va_start(args, format);
	vsnprintf(rest, sizeof rest, format, args);
	va_end(args);
	add(&b, "{");
	add_head(&b);
	add(&b, ",\"event\":\"%s\"%s}", name, rest);
	print_line(&b);
}

/* ---------------------------------------------------------------- parameters, parsed */

/* Digits with an optional fraction and, for bytes, a suffix. False on anything else. */
static bool parse_value(const char *s, enum unit unit, uint64_t *value)
{
	uint64_t whole = 0, milli = 0, scale = 100;
	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++) {
		if (whole > UINT64_MAX / 10000000)
			return false;
		whole = whole * 10 + (uint64_t)(*s - '0');
	}
	if (*s == '.' && unit == MILLI)
		for (s++; *s >= '0' && *s <= '9'; s++, scale /= 10)
			milli += (uint64_t)(*s - '0') * scale;
	unsigned shift = 0;
	if (unit == BYTES && *s) {
		switch (*s++) {
		case 'K': case 'k': shift = 10; break;
		case 'M': case 'm': shift = 20; break;
		case 'G': case 'g': shift = 30; break;
		default: return false;
		}
	}
	if (*s || (shift && whole >> (48 - shift)) || whole >> 48)
		return false;
	*value = unit == MILLI ? whole * 1000 + milli : whole << shift;
	return true;
}

static int find_param(const char *name, size_t len)
{
	for (int i = 0; i < P_COUNT; i++)
		if (strlen(params[i].name) == len && !memcmp(params[i].name, name, len))
			return i;
	return -1;
}

static bool mentions(const char *defaults, int p)
{
	size_t len = strlen(params[p].name);
	for (const char *s = defaults; s; s = strchr(s, ' '), s = s ? s + 1 : NULL)
		if (!strncmp(s, params[p].name, len) && s[len] == '=')
			return true;
	return false;
}

static bool takes(int p)
{
	return mentions(self_workload->defaults, p) || mentions(common_defaults, p);
}

/* What no combination of parameters may break, whoever sets them. Returns a complaint or NULL. */
static const char *inconsistent(const uint64_t v[P_COUNT])
{
	if (takes(P_HOT) && v[P_HOT] > v[takes(P_FILES) ? P_FILES : P_TOTAL])
		return "hot is larger than the whole";
	if (takes(P_HOT) && v[P_HOT] < PAGE)
		return "hot is smaller than a page";
	if (takes(P_BASE) && v[P_BASE] > v[P_TOTAL])
		return "base is larger than total";
	if (takes(P_EVERY) && !v[P_EVERY])
		return "every must not be 0";
	if (takes(P_KEYS) && (!v[P_KEYS] || v[P_KEYS] > 100000000))
		return "keys is out of range";
	if (takes(P_VALUE) && (v[P_VALUE] < 16 || v[P_VALUE] > 512 * 1024))
		return "value is out of range (16 to 512K)";
	if (takes(P_THETA) && v[P_THETA] > 5000)
		return "theta is out of range";
	return NULL;
}

/* Sets one KEY=VALUE. Returns a complaint or NULL. */
static const char *set_param(const char *word, bool live)
{
	const char *eq = strchr(word, '=');
	int p = eq ? find_param(word, (size_t)(eq - word)) : -1;
	uint64_t value, all[P_COUNT];
	if (!eq)
		return "not KEY=VALUE";
	if (p < 0 || !takes(p))
		return "no such parameter of this workload";
	if (live && !params[p].live)
		return "cannot be changed while running";
	if (!parse_value(eq + 1, params[p].unit, &value))
		return "not a value";
	if (params[p].unit == BYTES && p != P_VALUE)
		value = (value + PAGE - 1) / PAGE * PAGE;
	for (int i = 0; i < P_COUNT; i++)
		all[i] = GET(param[i]);
	all[p] = value;
	/* The command line is judged as a whole, in configure(). */
	const char *complaint = live ? inconsistent(all) : NULL;
	if (complaint)
		return complaint;
	/* hz and rate are two ways to say the same thing: the last one said holds. */
	if (live && p == P_HZ)
		SET(param[P_RATE], 0);
	SET(param[p], value);
	return NULL;
}

static void set_all(const char *words)
{
	char one[64];
	for (const char *s = words; *s;) {
		size_t len = strcspn(s, " ");
		snprintf(one, sizeof one, "%.*s", (int)len, s);
		set_param(one, false);
		s += len + (s[len] == ' ');
	}
}

static void complain(const char *what, const char *word)
{
	struct buf b = { 0 };
	add_safe(&b, word, 60);
	snprintf(config_error, sizeof config_error, "%.60s: %s", b.text, what);
}

static void configure(int argc, char **argv)
{
	uint64_t all[P_COUNT];
	const char *name = argc ? argv[0] : "idle", *complaint;
	const struct workload *found = NULL;
	for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++)
		if (!strcmp(workloads[i].name, name))
			found = &workloads[i];
	if (found)
		self_workload = found;
	set_all(common_defaults);
	set_all(self_workload->defaults);
	if (!found) {
		complain("no such workload", name);
		return;
	}
	for (int i = 1; i < argc; i++) {
		if (!strncmp(argv[i], "server=", 7) && takes(P_KEYS))
			snprintf(server_path, sizeof server_path, "%s", argv[i] + 7);
		else if (!strncmp(argv[i], "dev=", 4) && takes(P_FILES))
			snprintf(device_path, sizeof device_path, "%s", argv[i] + 4);
		else if ((complaint = set_param(argv[i], false)))
			complain(complaint, argv[i]);
	}
	for (int i = 0; i < P_COUNT; i++)
		all[i] = GET(param[i]);
	if (!config_error[0] && (complaint = inconsistent(all)))
		complain(complaint, self_workload->name);
}

/* ---------------------------------------------------------------- memory that looks like memory */

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static uint64_t page_tag(uint64_t index)
{
	return (index + 1) * 0x9e3779b97f4a7c15ull ^ seed;
}

/*
 * Records of 64 bytes: an identifier and a hash that nothing predicts, a pointer whose upper bytes all share,
 * and fields that repeat. lz4 leaves about 24 bytes of each, a ratio of 2.7.
 */
static void fill_records(uint64_t *p, size_t words, uint64_t *rnd)
{
	static const char field[41] = "state=ok owner=root kind=0001 next=none;";
	uint64_t x = *rnd, fixed[5];
	memcpy(fixed, field, sizeof fixed);
	for (size_t i = 0; i + 8 <= words; i += 8) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		p[i] = x;
		p[i + 1] = x * 0x9e3779b97f4a7c15ull;
		p[i + 2] = 0x00007f1c2a000000ull | (x >> 40);
		for (int j = 0; j < 5; j++)
			p[i + 3 + j] = fixed[j];
	}
	*rnd = x;
}

struct area {
	uint64_t *words;
	uint64_t bytes;
};

static bool map_area(struct area *a, uint64_t bytes)
{
	/* NORESERVE: whether it fits is the question under test, not the allocator's to answer. */
	void *p = bytes ? mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
			: NULL;
	if (p == MAP_FAILED) {
		event("error", ",\"error\":\"mmap of %llu bytes: errno %d\"", (unsigned long long)bytes, errno);
		return false;
	}
	a->words = p;
	a->bytes = bytes;
	return true;
}

static void fill_pages(struct area *a, uint64_t from, uint64_t to, uint64_t *rnd)
{
	for (uint64_t i = from; i < to; i++) {
		uint64_t *p = a->words + i * WORDS;
		fill_records(p, WORDS, rnd);
		p[0] = page_tag(i); /* checked at every touch */
		p[1] = 0;           /* counted up at every touch */
	}
}

static void raise_to(_Atomic uint64_t *max, uint64_t value)
{
	uint64_t old = atomic_load_explicit(max, memory_order_relaxed);
	while (value > old && !atomic_compare_exchange_weak(max, &old, value))
		;
}

static uint64_t sample_begin(void)
{
	uint64_t t = now_us();
	SET(started, t);
	return t;
}

static void sample_end(uint64_t began, uint64_t ops)
{
	uint64_t us = now_us() - began;
	SET(started, 0);
	ADD(ops, ops);
	for (int w = 0; w < W_COUNT; w++)
		raise_to(&sh->max_us[w], us);
}

/* Fills pages [from, to). `measured`: somebody waits for this memory, so its delays count. */
static void fill(struct area *a, uint64_t from, uint64_t to, bool measured)
{
	for (uint64_t i = from; i < to; i += TOUCH_CHUNK) {
		uint64_t end = min_u64(i + TOUCH_CHUNK, to);
		wait_unpaused();
		uint64_t began = measured ? sample_begin() : 0;
		fill_pages(a, i, end, &random_state);
		if (measured)
			sample_end(began, end - i);
		ADD(held, (end - i) * PAGE);
	}
}

static void touch_pages(struct area *a, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i += TOUCH_CHUNK) {
		uint64_t end = min_u64(i + TOUCH_CHUNK, to);
		wait_unpaused();
		uint64_t began = sample_begin();
		for (uint64_t j = i; j < end; j++) {
			volatile uint64_t *p = a->words + j * WORDS;
			if (p[0] != page_tag(j))
				ADD(errors, 1);
			p[1]++;
		}
		sample_end(began, end - i);
	}
}

/* How long `ops` operations may take by rate= or a pass by hz=; 0 means no pause at all. */
static uint64_t pass_period(uint64_t ops)
{
	uint64_t rate = GET(param[P_RATE]), hz = GET(param[P_HZ]);
	if (rate)
		return ops * 1000 * SECOND / rate;
	return hz ? 1000 * SECOND / hz : 0;
}

typedef void pass_fn(void *what, uint64_t from_page, uint64_t to_page);

/*
 * One turn of every pass-making workload: does a pass if one is due, then sleeps until the next, until
 * `deadline`, or until a command later than `seq`. The caller reads `seq`, looks whether its own time has come,
 * and calls again.
 */
static void turn(pass_fn *pass, void *what, uint64_t from, uint64_t bytes, uint64_t deadline, uint32_t seq)
{
	static uint64_t last;
	uint64_t pages = bytes / PAGE, first = from / PAGE;
	wait_unpaused();
	uint64_t period = pass_period(pages), now = now_us();
	SET(hot_from, from);
	SET(hot, bytes);
	if (!pages) {
		sleep_until(deadline, seq);
		return;
	}
	if (!last || now >= last + period) {
		/* Keep the beat, but never make up for lost passes by a burst. */
		last = last && now < last + 2 * period ? last + period : now;
		pass(what, first, first + pages);
		uint64_t took = now_us() - now;
		for (int w = 0; w < W_COUNT; w++)
			raise_to(&sh->pass_us[w], took);
	}
	if (period)
		sleep_until(min_u64(last + period, deadline), seq);
}

static void touch_pass(void *area, uint64_t from, uint64_t to)
{
	touch_pages(area, from, to);
}

static _Noreturn void rest(enum phase phase)
{
	SET(hot, 0);
	SET(phase, phase);
	for (;;)
		sleep_until(NEVER, command_seq());
}

/* ---------------------------------------------------------------- the workloads of plain memory */

static struct area mapped_or_rest(uint64_t bytes)
{
	struct area a;
	if (!map_area(&a, bytes))
		rest(PH_ERROR);
	SET(phase, PH_FILL);
	return a;
}

static uint64_t after_seconds(enum param p)
{
	return now_us() + GET(param[p]) * 1000;
}

static void run_idle(void)
{
	struct area a = mapped_or_rest(GET(param[P_TOTAL]));
	fill(&a, 0, a.bytes / PAGE, false);
	rest(PH_IDLE);
}

static void run_hotset(void)
{
	struct area a = mapped_or_rest(GET(param[P_TOTAL]));
	fill(&a, 0, a.bytes / PAGE, false);
	SET(phase, PH_TOUCH);
	for (;;)
		turn(touch_pass, &a, 0, GET(param[P_HOT]), NEVER, command_seq());
}

static void run_phases(void)
{
	struct area a = mapped_or_rest(GET(param[P_TOTAL]));
	fill(&a, 0, a.bytes / PAGE, false);
	for (uint32_t no = 0;; no++) {
		uint64_t began = now_us(), hot = GET(param[P_HOT]);
		uint64_t from = no % (a.bytes / hot) * hot, end;
		uint32_t wakes = GET(wakes);
		SET(phase_no, no);
		SET(phase, PH_TOUCH);
		event("phase", ",\"phase_no\":%u,\"hot_from\":%llu,\"hot_to\":%llu", no, (unsigned long long)from,
		      (unsigned long long)(from + hot));
		/* A change of hot= starts a phase of its own: its windows lie elsewhere. */
		for (;;) {
			uint32_t seq = command_seq();
			end = began + GET(param[P_EVERY]) * 1000;
			if (now_us() >= end || GET(wakes) != wakes || GET(param[P_HOT]) != hot)
				break;
			turn(touch_pass, &a, from, hot, end, seq);
		}
	}
}

static void run_hog(void)
{
	uint64_t base = GET(param[P_BASE]), total = GET(param[P_TOTAL]);
	struct area a = mapped_or_rest(total);
	uint32_t wakes = GET(wakes);
	fill(&a, 0, base / PAGE, false);
	/* After a death by the OOM killer it waits to be told, instead of dying for ever. */
	uint64_t wake_at = GET(param[P_WAKE]) && !GET(restarts) ? after_seconds(P_WAKE) : NEVER;
	for (;; wake_at = NEVER, wakes = GET(wakes)) {
		SET(phase, PH_BASE);
		for (;;) {
			uint32_t seq = command_seq();
			if (now_us() >= wake_at || GET(wakes) != wakes)
				break;
			turn(touch_pass, &a, 0, base, wake_at, seq);
		}
		SET(phase, PH_GROW);
		SET(hot, total);
		event("wake", ",\"bytes\":%llu", (unsigned long long)(total - base));
		uint64_t began = now_us();
		fill(&a, base / PAGE, total / PAGE, true);
		uint64_t need = now_us() - began;
		SET(need_us, need);
		SET(phase, PH_FULL);
		event("grown", ",\"bytes\":%llu,\"need_us\":%llu", (unsigned long long)(total - base),
		      (unsigned long long)need);
		uint64_t hold = GET(param[P_HOLD]), release = hold ? after_seconds(P_HOLD) : NEVER;
		while (now_us() < release)
			turn(touch_pass, &a, 0, total, release, command_seq());
		madvise((char *)a.words + base, total - base, MADV_DONTNEED);
		SET(held, base);
		event("released", ",\"bytes\":%llu", (unsigned long long)(total - base));
	}
}

/* Holds all of its memory for `after` seconds, or until it is woken. */
static struct area hold(void)
{
	struct area a = mapped_or_rest(GET(param[P_TOTAL]));
	uint32_t wakes = GET(wakes);
	fill(&a, 0, a.bytes / PAGE, false);
	SET(phase, PH_HELD);
	for (uint64_t end = after_seconds(P_AFTER); now_us() < end && GET(wakes) == wakes;) {
		uint32_t seq = command_seq();
		if (GET(wakes) == wakes)
			sleep_until(end, seq);
	}
	return a;
}

static void gave_back(uint64_t bytes, uint64_t began)
{
	event("freed", ",\"bytes\":%llu,\"free_us\":%llu", (unsigned long long)bytes,
	      (unsigned long long)(now_us() - began));
	rest(PH_FREED);
}

static void run_freed(void)
{
	struct area a = hold();
	uint64_t began = now_us();
	if (a.bytes)
		munmap(a.words, a.bytes);
	SET(held, 0);
	SET(phase, PH_FREED);
	gave_back(a.bytes, began);
}

/*
 * Gives back half of its pages, each by chance: free memory in pieces too small for free page reporting. Not every
 * second one: the kernel's compaction looks for free pages in strides of up to 32 and would see none of them.
 */
static void run_frag(void)
{
	struct area a = hold();
	uint64_t began = now_us(), bytes = 0;
	random_state = seed | 1;
	for (uint64_t at = 0; at < a.bytes; at += PAGE)
		if (next_random() >> 63) {
			madvise((char *)a.words + at, PAGE, MADV_DONTNEED);
			bytes += PAGE;
		}
	SET(held, a.bytes - bytes);
	SET(phase, PH_FREED);
	gave_back(bytes, began);
}

/* ---------------------------------------------------------------- page cache */

/* One word of each page: what counts is that the page is in the cache, not the copying. */
static void read_pass(void *what, uint64_t from, uint64_t to)
{
	int fd = *(int *)what;
	for (uint64_t i = from; i < to; i += READ_CHUNK) {
		uint64_t end = min_u64(i + READ_CHUNK, to), word;
		wait_unpaused();
		uint64_t began = sample_begin();
		for (uint64_t j = i; j < end; j++)
			if (pread(fd, &word, sizeof word, (off_t)(j * PAGE)) != sizeof word)
				ADD(errors, 1);
		sample_end(began, end - i);
	}
}

static void run_pagecache(void)
{
	uint64_t files = GET(param[P_FILES]);
	int fd = open(device_path, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	if (size < 0 || (uint64_t)size < files) {
		event("error", ",\"error\":\"no device or file of %llu bytes to read\"", (unsigned long long)files);
		rest(PH_ERROR);
	}
	SET(phase, PH_FILL);
	for (uint64_t i = 0; i < files / PAGE; i += READ_CHUNK) {
		uint64_t end = min_u64(i + READ_CHUNK, files / PAGE);
		read_pass(&fd, i, end);
		ADD(held, (end - i) * PAGE);
	}
	SET(phase, PH_READ);
	for (;;)
		turn(read_pass, &fd, 0, GET(param[P_HOT]), NEVER, command_seq());
}

/* ---------------------------------------------------------------- key-value */

/* Natural logarithm and exponential without libm: a guest image links nothing it can do without. */
static double ln(double x)
{
	double whole = 0, y, term, sum = 0;
	for (; x > 1.5; x /= 2)
		whole += 0.693147180559945309;
	y = (x - 1) / (x + 1);
	term = y;
	for (int k = 1; k < 30; k += 2, term *= y * y)
		sum += term / k;
	return whole + 2 * sum;
}

static double exponential(double x)
{
	double term = 1, sum = 1;
	x /= 1024;
	for (int k = 1; k < 8; k++)
		sum += term *= x / k;
	for (int i = 0; i < 10; i++)
		sum *= sum;
	return sum;
}

static struct {
	uint64_t keys, value;
	uint32_t *below; /* cumulative probability by rank, in 1/2^32 */
	uint64_t hot_keys;
	uint64_t stride; /* scatters the ranks over the keys */
	char *store;     /* the built-in server, where there is no memcached */
	int socket;
	char *io;
	size_t io_bytes;
} kv = { .socket = -1 };

static uint64_t gcd(uint64_t a, uint64_t b)
{
	return b ? gcd(b, a % b) : a;
}

static bool kv_prepare(void)
{
	double theta = (double)GET(param[P_THETA]) / 1000, sum = 0, running = 0;
	kv.keys = GET(param[P_KEYS]);
	kv.value = GET(param[P_VALUE]) / 8 * 8;
	kv.io_bytes = 32 * (kv.value + 128) + 32768; /* a batch of sets, or the server's statistics */
	struct area io, table;
	if (!map_area(&io, kv.io_bytes) || !map_area(&table, kv.keys * sizeof *kv.below))
		return false;
	kv.io = (char *)io.words;
	kv.below = (uint32_t *)table.words;
	kv.stride = 1;
	if (GET(param[P_SCATTER]))
		for (kv.stride = kv.keys * 618 / 1000 | 1; gcd(kv.stride, kv.keys) != 1; kv.stride += 2)
			;
	for (uint64_t i = 1; i <= kv.keys; i++)
		sum += exponential(-theta * ln((double)i));
	for (uint64_t i = 1; i <= kv.keys; i++) {
		running += exponential(-theta * ln((double)i)) / sum;
		kv.below[i - 1] = running >= 1 ? UINT32_MAX : (uint32_t)(running * 4294967295.0);
		if (running < 0.9)
			kv.hot_keys = i;
	}
	kv.hot_keys = min_u64(kv.hot_keys + 1, kv.keys);
	return true;
}

static uint64_t kv_pick(void)
{
	uint32_t r = (uint32_t)(next_random() >> 32);
	uint64_t low = 0, high = kv.keys - 1;
	while (low < high) {
		uint64_t mid = (low + high) / 2;
		if (kv.below[mid] < r)
			low = mid + 1;
		else
			high = mid;
	}
	return low * kv.stride % kv.keys;
}

static void kv_make_value(char *to, uint64_t key)
{
	uint64_t words[8], tag = page_tag(key);
	for (uint64_t at = 0; at < kv.value; at += sizeof words) {
		fill_records(words, 8, &random_state);
		memcpy(to + at, words, min_u64(sizeof words, kv.value - at));
	}
	memcpy(to, &tag, sizeof tag);
}

static bool send_all(const char *p, size_t n)
{
	while (n) {
		ssize_t sent = send(kv.socket, p, n, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return false;
		p += sent;
		n -= (size_t)sent;
	}
	return true;
}

static size_t kv_format_set(char *to, uint64_t key, const char *noreply)
{
	int n = sprintf(to, "set key%08llu 0 0 %llu%s\r\n", (unsigned long long)key, (unsigned long long)kv.value,
			noreply);
	kv_make_value(to + n, key);
	memcpy(to + (size_t)n + kv.value, "\r\n", 2);
	return (size_t)n + kv.value + 2;
}

/* Receives into kv.io until it ends in `end`. Returns the length, or 0 when the server is gone. */
static size_t receive_until(const char *end)
{
	size_t got = 0, want = strlen(end);
	for (;;) {
		ssize_t n = recv(kv.socket, kv.io + got, kv.io_bytes - got, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		got += (size_t)n;
		if (got >= want && !memcmp(kv.io + got - want, end, want))
			return got;
		if (got == kv.io_bytes)
			return 0;
	}
}

/* Each returns false when the server is gone. */
static bool kv_set(uint64_t key)
{
	if (kv.store) {
		kv_make_value(kv.store + key * kv.value, key);
		return true;
	}
	size_t n = kv_format_set(kv.io, key, "");
	if (!send_all(kv.io, n) || !receive_until("\r\n"))
		return false;
	if (memcmp(kv.io, "STORED", 6))
		ADD(errors, 1);
	return true;
}

static bool kv_get(uint64_t key)
{
	uint64_t tag;
	const char *value;
	if (kv.store) {
		memcpy(kv.io, kv.store + key * kv.value, kv.value);
		value = kv.io;
	} else {
		size_t n = (size_t)sprintf(kv.io, "get key%08llu\r\n", (unsigned long long)key);
		if (!send_all(kv.io, n) || !(n = receive_until("END\r\n")))
			return false;
		if (n == 5) {
			ADD(misses, 1);
			return kv_set(key);
		}
		value = memchr(kv.io, '\n', n);
		if (!value || n < (size_t)(value - kv.io) + kv.value + 8) {
			ADD(errors, 1);
			return true;
		}
		value++;
	}
	memcpy(&tag, value, sizeof tag);
	if (tag != page_tag(key))
		ADD(errors, 1);
	return true;
}

static bool kv_fill(void)
{
	uint64_t item = kv.value + 56; /* a server's own words about an item, until it tells */
	SET(phase, PH_FILL);
	for (uint64_t i = 0; i < kv.keys;) {
		/* The batch ends in a question, whose answer shows that all of it was taken. */
		uint64_t batch = min_u64(kv.keys - i, 31);
		size_t n = 0;
		wait_unpaused();
		for (uint64_t end = i + batch; i < end; i++) {
			if (kv.store)
				kv_set(i);
			else
				n += kv_format_set(kv.io + n, i, " noreply");
		}
		if (!kv.store) {
			memcpy(kv.io + n, "version\r\n", 9);
			if (!send_all(kv.io, n + 9) || !receive_until("\r\n"))
				return false;
			if (memcmp(kv.io, "VERSION", 7)) {
				ADD(errors, 1);
				return false;
			}
		}
		ADD(held, batch * item);
	}
	if (kv.store) {
		item = kv.value;
	} else {
		/* memcached's slabs round sizes up: its own figures are the truth. */
		if (!send_all("stats slabs\r\n", 13))
			return false;
		size_t n = receive_until("END\r\n");
		if (!n)
			return false;
		kv.io[n - 1] = 0;
		uint64_t chunk = 0, sum = 0;
		for (char *line = strtok(kv.io, "\r\n"); line; line = strtok(NULL, "\r\n")) {
			char *field = strchr(line, ':');
			if (field && !strncmp(field, ":chunk_size ", 12))
				chunk = strtoull(field + 12, NULL, 10);
			if (field && !strncmp(field, ":used_chunks ", 13))
				sum += chunk * strtoull(field + 13, NULL, 10);
		}
		if (sum)
			item = sum / kv.keys;
	}
	SET(held, kv.keys * item);
	SET(hot, kv.hot_keys * item);
	/* Scattered hot items make their cold neighbours' pages hot: 1 - (1 - f)^(items a page). */
	double cold = 1;
	for (uint64_t i = 0; GET(param[P_SCATTER]) && i < (item < PAGE ? PAGE / item : 1); i++)
		cold *= 1 - (double)kv.hot_keys / (double)kv.keys;
	SET(hot_pages_bytes,
	    GET(param[P_SCATTER]) ? (uint64_t)((1 - cold) * (double)(kv.keys * item)) : kv.hot_keys * item);
	SET(phase, PH_SERVE);
	return true;
}

/* Paced in batches of a twentieth of a second: a timer for each operation would cost more than the operation. */
static void kv_serve(void)
{
	uint64_t owed = 0, last = now_us(); /* owed: in millionths of an operation */
	for (;;) {
		wait_unpaused();
		uint32_t seq = command_seq();
		uint64_t rate = GET(param[P_RATE]), now = now_us();
		uint64_t batch = 64;
		if (rate) {
			/* Never more than a second's worth: after a stall there is no burst. */
			owed += min_u64(now - last, SECOND) * rate / 1000;
			owed = min_u64(owed, rate * 1000);
			batch = owed / SECOND;
			owed -= batch * SECOND;
		}
		last = now;
		for (uint64_t i = 0; i < batch && !GET(paused); i++) {
			uint64_t key = kv_pick(), began = sample_begin();
			bool alive = next_random() % 100 < 5 ? kv_set(key) : kv_get(key);
			if (!alive)
				return;
			sample_end(began, 1);
		}
		if (rate)
			sleep_until(now + (rate < 20000 ? 1000 * SECOND / rate : SECOND / 20), seq);
	}
}

static bool start_server(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char limit[24];
	snprintf(address.sun_path, sizeof address.sun_path, "/tmp/workload-%d.sock", (int)getpid());
	/* Room for slab rounding, so that nothing is evicted. */
	snprintf(limit, sizeof limit, "%llu",
		 (unsigned long long)((kv.keys * (kv.value + 128) * 4 / 3 >> 20) + 16));
	unlink(address.sun_path);
	pid_t parent = getpid(), pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		int null = open("/dev/null", O_RDWR);
		for (int fd = 0; fd < 3; fd++)
			dup2(null, fd);
		/* Its own housekeeping would walk over cold items and make them hot. */
		execl(server_path, server_path, "-u", "root", "-m", limit, "-s", address.sun_path, "-t", "1", "-c", "16",
		      "-o", "no_lru_crawler,no_lru_maintainer", (char *)NULL);
		_exit(127);
	}
	SET(server, pid);
	for (int tries = 0; pid > 0 && tries < 600; tries++) {
		int status;
		if (waitpid(pid, &status, WNOHANG) == pid) {
			SET(server, 0);
			event("error", ",\"error\":\"the server ended at its start, wait status %d\"", status);
			return false;
		}
		kv.socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (!connect(kv.socket, (struct sockaddr *)&address, sizeof address)) {
			unlink(address.sun_path);
			return true;
		}
		close(kv.socket);
		sleep_us(100000);
	}
	return false;
}

static void stop_server(void)
{
	struct rusage usage;
	pid_t pid = GET(server);
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	SET(server, 0);
	if (wait4(pid, NULL, 0, &usage) == pid)
		ADD(majflt_past, (uint64_t)usage.ru_majflt);
}

static void run_kv(void)
{
	if (!kv_prepare())
		rest(PH_ERROR);
	if (access(server_path, X_OK)) {
		struct area store;
		if (!map_area(&store, kv.keys * kv.value))
			rest(PH_ERROR);
		kv.store = (char *)store.words;
		kv_fill();
		kv_serve();
	}
	for (;;) {
		SET(phase, PH_START);
		if (start_server() && kv_fill())
			kv_serve();
		SET(phase, PH_DEAD);
		SET(hot, 0);
		SET(held, 0);
		SET(started, 0);
		close(kv.socket);
		stop_server();
		ADD(server_restarts, 1);
		event("server_died", ",\"server_restarts\":%u", GET(server_restarts));
		sleep_us(2 * SECOND);
	}
}

/* ---------------------------------------------------------------- worker and supervisor */

/* Does alloc and free of the channel, beside whatever the workload does. */
static void *extra_thread(void *unused)
{
	struct area a = { 0 };
	uint64_t rnd = seed | 1;
	(void)unused;
	for (;;) {
		uint32_t seq = command_seq();
		uint64_t want = GET(extra_want), have = GET(extra_have);
		if (a.bytes && want != a.bytes) {
			munmap(a.words, a.bytes);
			a.bytes = 0;
			SET(extra_have, 0);
			event("extra_freed", ",\"bytes\":%llu", (unsigned long long)have);
		} else if (want && !a.bytes) {
			if (!map_area(&a, want))
				SET(extra_want, 0);
		} else if (have < want) {
			uint64_t to = min_u64(have / PAGE + TOUCH_CHUNK, want / PAGE);
			fill_pages(&a, have / PAGE, to, &rnd);
			SET(extra_have, to * PAGE);
			if (to * PAGE == want)
				event("extra_held", ",\"bytes\":%llu", (unsigned long long)want);
		} else {
			sleep_until(NEVER, seq);
		}
	}
	return NULL;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		event("error", ",\"error\":\"cannot write %s\"", path);
	close(fd);
}

static void start_thread(void *(*run)(void *))
{
	pthread_t thread;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 * 1024); /* control's stacks are locked in memory */
	if (pthread_create(&thread, &attr, run, NULL))
		event("error", ",\"error\":\"no thread\"");
}

static void die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

static _Noreturn void supervise(bool init)
{
	for (pid_t self = getpid();;) {
		struct rusage usage;
		int status = 0;
		pid_t pid = fork();
		if (!pid) {
			die_with(self);
			SET(worker, getpid()); /* itself: its phase must not be told before it */
			if (init)
				write_file("/proc/self/oom_score_adj", "0");
			random_state = seed | 1;
			start_thread(extra_thread);
			self_workload->run();
			_exit(1);
		}
		if (pid > 0) {
			while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR)
				;
			SET(worker, 0);
			SET(server, 0); /* it dies with the worker */
			SET(phase, PH_DEAD);
			SET(hot, 0);
			SET(held, 0);
			SET(started, 0);
			SET(extra_have, 0);
			SET(extra_want, 0);
			ADD(majflt_past, (uint64_t)usage.ru_majflt);
			event("worker_died", ",\"signal\":%d,\"restarts\":%u",
			      WIFSIGNALED(status) ? WTERMSIG(status) : 0, ADD(restarts, 1) + 1);
		}
		sleep_us(3 * SECOND);
	}
}

/* ---------------------------------------------------------------- control */

static size_t read_text(const char *path, char *to, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t got = 0;
	ssize_t n;
	while (fd >= 0 && (n = read(fd, to + got, room - 1 - got)) > 0)
		got += (size_t)n;
	if (fd >= 0)
		close(fd);
	to[got] = 0;
	return got;
}

/* Major faults and bytes read from disk of a process, as the kernel counts them. */
static uint64_t major_faults(pid_t pid)
{
	char path[40], text[1024];
	if (pid <= 0)
		return 0;
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	read_text(path, text, sizeof text);
	char *s = strrchr(text, ')'); /* the name before it may hold anything */
	for (int field = 2; s && field < 12; field++)
		if ((s = strchr(s, ' ')))
			s++;
	return s ? strtoull(s, NULL, 10) : 0;
}

static uint64_t disk_bytes(pid_t pid)
{
	char path[40], text[1024];
	if (pid <= 0)
		return 0;
	snprintf(path, sizeof path, "/proc/%d/io", (int)pid);
	read_text(path, text, sizeof text);
	char *s = strstr(text, "\nread_bytes: ");
	return s ? strtoull(s + 13, NULL, 10) : 0;
}

static void add_truth(struct buf *b, enum window w)
{
	static struct {
		uint64_t t, ops;
	} last[W_COUNT];
	uint64_t t = now_us(), ops = GET(ops), started = GET(started);
	uint64_t max = atomic_exchange(&sh->max_us[w], 0), pass = atomic_exchange(&sh->pass_us[w], 0);
	bool paused = GET(paused);
	unsigned long long hot = paused ? 0 : GET(hot), from = GET(hot_from);
	/* An operation that does not end counts for as long as it has lasted. */
	if (started && t > started && t - started > max)
		max = t - started;
	if (!last[w].t)
		last[w].t = start_us;
	double rate = t > last[w].t ? (double)(ops - last[w].ops) * SECOND / (double)(t - last[w].t) : 0;
	last[w].t = t;
	last[w].ops = ops;
	add(b,
	    ",\"phase\":\"%s\",\"paused\":%s,\"ops\":%llu,\"rate\":%.1f,\"hot_bytes\":%llu,\"total_bytes\":%llu,"
	    "\"extra_bytes\":%llu,\"max_us\":%llu,\"max_ops\":%u,\"pass_us\":%llu,\"majflt\":%llu,\"errors\":%llu,"
	    "\"restarts\":%u,\"pid\":%d",
	    phase_names[GET(phase)], paused ? "true" : "false", (unsigned long long)ops, rate, hot,
	    (unsigned long long)(GET(held) + GET(extra_have)), (unsigned long long)GET(extra_have),
	    (unsigned long long)max, self_workload->max_ops, (unsigned long long)pass,
	    (unsigned long long)(GET(majflt_past) + major_faults(GET(worker)) + major_faults(GET(server))),
	    (unsigned long long)GET(errors), GET(restarts), (int)GET(worker));
	if (takes(P_EVERY))
		add(b, ",\"phase_no\":%u", GET(phase_no));
	if (takes(P_EVERY) || self_workload->run == run_hotset)
		add(b, ",\"hot_from\":%llu,\"hot_to\":%llu", from, from + hot);
	if (takes(P_BASE))
		add(b, ",\"need_us\":%llu", (unsigned long long)GET(need_us));
	if (takes(P_FILES))
		add(b, ",\"disk_bytes\":%llu", (unsigned long long)disk_bytes(GET(worker)));
	if (takes(P_KEYS))
		add(b, ",\"hot_estimate\":true,\"hot_pages_bytes\":%llu,\"misses\":%llu,\"server\":\"%s\","
		       "\"server_pid\":%d,\"server_restarts\":%u",
		    (unsigned long long)GET(hot_pages_bytes), (unsigned long long)GET(misses),
		    access(server_path, X_OK) ? "builtin" : "memcached", (int)GET(server), GET(server_restarts));
}

static void *report_thread(void *unused)
{
	(void)unused;
	for (;;) {
		uint32_t seq = command_seq();
		uint64_t period = GET(param[P_REPORT]);
		if (!period) {
			sleep_until(NEVER, seq);
			continue;
		}
		sleep_us(period * 1000);
		struct buf b = { 0 };
		add(&b, "{");
		add_head(&b);
		add_truth(&b, W_REPORT);
		add(&b, "}");
		print_line(&b);
	}
	return NULL;
}

static void add_mem(struct buf *b)
{
	static const char *const kib[] = { "MemTotal", "MemFree",   "MemAvailable", "Buffers", "Cached",
					   "AnonPages", "SwapTotal", "SwapFree" };
	static const char *const counts[] = { "pswpin", "pswpout", "pgmajfault", "oom_kill", "balloon_inflate",
					      "balloon_deflate", "workingset_refault_anon",
					      "workingset_refault_file" };
	static char text[32768]; /* only the channel thread comes here */
	char key[40];
	const char *s;
	text[0] = '\n';
	read_text("/proc/meminfo", text + 1, sizeof text - 1);
	for (size_t i = 0; i < sizeof kib / sizeof *kib; i++) {
		size_t n = (size_t)snprintf(key, sizeof key, "\n%s:", kib[i]);
		if ((s = strstr(text, key)))
			add(b, ",\"%s\":%llu", kib[i], strtoull(s + n, NULL, 10) * 1024);
	}
	read_text("/proc/vmstat", text + 1, sizeof text - 1);
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		size_t n = (size_t)snprintf(key, sizeof key, "\n%s ", counts[i]);
		if ((s = strstr(text, key)))
			add(b, ",\"%s\":%llu", counts[i], strtoull(s + n, NULL, 10));
	}
}

static pid_t supervisor;
static _Atomic bool stopping;

/* Outside a guest: ends the supervisor, after which main() reaps what is left and ends too. */
static _Noreturn void stop(void)
{
	stopping = true;
	if (supervisor <= 0)
		_exit(0);
	kill(supervisor, SIGKILL);
	for (;;)
		pause();
}

static void power_off(void)
{
	if (getpid() != 1)
		stop();
	sync();
	reboot(RB_POWER_OFF);
}

/* The commands that change something. Returns a complaint or NULL; `known` says whether it was one of them. */
static const char *obey(const char *verb, const char *rest_of_line, struct buf *b, bool *known)
{
	uint64_t bytes;
	*known = true;
	if (!strcmp(verb, "wake")) {
		if (!self_workload->wakes)
			return "this workload has nothing to wake";
		ADD(wakes, 1);
	} else if (!strcmp(verb, "pause") || !strcmp(verb, "resume")) {
		SET(paused, verb[0] == 'p');
	} else if (!strcmp(verb, "set")) {
		const char *complaint = set_param(rest_of_line, true);
		if (complaint)
			return complaint;
	} else if (!strcmp(verb, "alloc")) {
		if (!parse_value(rest_of_line, BYTES, &bytes) || !bytes)
			return "alloc needs a size";
		if (GET(extra_want))
			return "already allocated: free first";
		bytes = (bytes + PAGE - 1) / PAGE * PAGE;
		SET(extra_want, bytes);
		add(b, ",\"extra_target\":%llu", (unsigned long long)bytes);
	} else if (!strcmp(verb, "free")) {
		SET(extra_want, 0);
	} else if (!strcmp(verb, "drop_caches")) {
		/* Outside a guest this would be the machine's own cache. */
		if (getpid() != 1)
			return "only in a guest";
		sync();
		write_file("/proc/sys/vm/drop_caches", "3");
	} else {
		*known = false;
		return NULL;
	}
	tell_worker();
	return NULL;
}

/* One request, one answer. A last word "@ID" comes back as "id", to tell answers apart. */
static bool answer(char *line, struct buf *b)
{
	char *id = strrchr(line, '@'), *verb, *rest_of_line;
	const char *complaint = NULL;
	struct buf body = { 0 };
	bool off = false, known = true;
	if (id && (id == line || id[-1] == ' '))
		*id++ = 0;
	else
		id = NULL;
	for (size_t n = strlen(line); n && line[n - 1] == ' ';)
		line[--n] = 0;
	verb = line + strspn(line, " ");
	rest_of_line = verb + strcspn(verb, " ");
	if (*rest_of_line)
		*rest_of_line++ = 0;
	rest_of_line += strspn(rest_of_line, " ");

	if (!*verb) {
		complaint = "empty request";
	} else if (config_error[0] && strcmp(verb, "off") != 0) {
		complaint = config_error;
	} else if (!strcmp(verb, "ping")) {
		add(&body, ",\"phase\":\"%s\",\"ops\":%llu", phase_names[GET(phase)], (unsigned long long)GET(ops));
	} else if (!strcmp(verb, "stat")) {
		add_truth(&body, W_STAT);
	} else if (!strcmp(verb, "mem")) {
		add_mem(&body);
	} else if (!strcmp(verb, "off")) {
		off = true;
	} else {
		complaint = obey(verb, rest_of_line, &body, &known);
		if (!known)
			complaint = "unknown request";
	}

	add(b, "{\"ok\":%s", complaint ? "false" : "true");
	if (id) {
		add(b, ",\"id\":\"");
		add_safe(b, id, 32);
		add(b, "\"");
	}
	if (complaint)
		add(b, ",\"error\":\"%s\"", complaint);
	if (complaint && !known) {
		add(b, ",\"request\":\"");
		add_safe(b, verb, 32);
		add(b, "\"");
	}
	add(b, ",");
	add_head(b);
	add(b, "%s}\n", complaint ? "" : body.text);
	return off;
}

static int port_in = -1, port_out = -1;
static bool port_is_stdio;

/*
 * An answer nobody takes within a second is dropped: it would only puzzle the next peer. Not sooner, because the
 * driver learns from a work queue that a peer has come, which may be after the peer's first request was read.
 */
static void send_answer(const struct buf *b)
{
	uint64_t deadline = now_us() + SECOND;
	for (size_t done = 0; done < b->len;) {
		ssize_t n = write(port_out, b->text + done, b->len - done);
		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0 || errno != EAGAIN || now_us() >= deadline)
			return;
		struct pollfd p = { .fd = port_out, .events = POLLOUT };
		if (poll(&p, 1, 1000) > 0 && p.revents & (POLLHUP | POLLERR))
			sleep_us(10000);
	}
}

static void handle_line(char *line, size_t len, bool too_long)
{
	struct buf b = { 0 };
	bool off = false;
	if (len && line[len - 1] == '\r')
		len--;
	line[len] = 0;
	if (too_long || memchr(line, 0, len)) {
		add(&b, "{\"ok\":false,\"error\":\"%s\",", too_long ? "line too long" : "not text");
		add_head(&b);
		add(&b, "}\n");
	} else {
		off = answer(line, &b);
	}
	send_answer(&b);
	if (off) {
		if (!port_is_stdio)
			sleep_us(200000); /* let the host take the answer */
		power_off();
	}
}

/* Waits for more input. A port without a peer reads as end of file; its driver sends SIGIO when one comes. */
static void wait_for_input(bool peerless)
{
	if (peerless) {
		struct timespec second = { 1, 0 };
		sigset_t io;
		sigemptyset(&io);
		sigaddset(&io, SIGIO);
		sigtimedwait(&io, NULL, &second);
	} else {
		struct pollfd p = { .fd = port_in, .events = POLLIN };
		poll(&p, 1, -1);
	}
}

static void *channel_thread(void *unused)
{
	static char line[LINE_MAX_BYTES + 1], chunk[1024];
	size_t len = 0;
	bool too_long = false, had_peer = false;
	(void)unused;
	for (;;) {
		ssize_t n = read(port_in, chunk, sizeof chunk);
		if (n <= 0) {
			if (n < 0 && errno == EINTR)
				continue;
			if (port_is_stdio)
				stop();
			bool peer = n < 0 && errno == EAGAIN;
			if (had_peer && !peer) { /* half a request of a peer that left is nobody's */
				len = 0;
				too_long = false;
			}
			had_peer = peer;
			wait_for_input(!peer);
			continue;
		}
		for (ssize_t i = 0; i < n; i++) {
			if (chunk[i] == '\n') {
				handle_line(line, len, too_long);
				len = 0;
				too_long = false;
			} else if (len < LINE_MAX_BYTES) {
				line[len++] = chunk[i];
			} else {
				too_long = true;
			}
		}
	}
	return NULL;
}

static bool open_port(const char *path)
{
	if (!strcmp(path, "none"))
		return false;
	if (!strcmp(path, "-")) {
		port_is_stdio = true;
		port_in = 0;
		port_out = 1;
		return true;
	}
	port_in = port_out = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (port_in < 0) {
		event("error", ",\"error\":\"cannot open the port: errno %d\"", errno);
		return false;
	}
	fcntl(port_in, F_SETOWN, getpid());
	fcntl(port_in, F_SETFL, O_NONBLOCK | O_ASYNC);
	return true;
}

static uint64_t choose_seed(void)
{
	uint64_t chosen = GET(param[P_SEED]), random = 0;
	if (chosen)
		return chosen * 0x9e3779b97f4a7c15ull;
	/* Early in a guest's life there may be no randomness yet; two guests must differ all the same. */
	if (syscall(SYS_getrandom, &random, sizeof random, 1 /* GRND_NONBLOCK */) != sizeof random) {
		struct timespec t;
		clock_gettime(CLOCK_REALTIME, &t);
		random = (uint64_t)t.tv_nsec * 0x9e3779b97f4a7c15ull ^ (uint64_t)t.tv_sec << 20 ^ now_us();
	}
	return random | 1;
}

int main(int argc, char **argv)
{
	const char *port = "-";
	int at = 1;
	sigset_t io;
	for (; at + 1 < argc && !strncmp(argv[at], "--", 2); at += 2) {
		if (!strcmp(argv[at], "--port")) {
			port = argv[at + 1];
		} else if (!strcmp(argv[at], "--console")) {
			int fd = open(argv[at + 1], O_WRONLY | O_APPEND | O_NOCTTY | O_CLOEXEC);
			console_fd = fd < 0 ? 2 : fd;
		}
	}
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&io);
	sigaddset(&io, SIGIO);
	sigprocmask(SIG_BLOCK, &io, NULL);
	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		return 1;
	start_us = now_us();
	configure(argc - at, argv + at);
	seed = choose_seed();

	bool init = getpid() == 1;
	if (init)
		write_file("/proc/self/oom_score_adj", "-1000");
	if (config_error[0]) {
		SET(phase, PH_ERROR);
		event("error", ",\"error\":\"%s\"", config_error);
	} else {
		pid_t control = getpid();
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		supervisor = fork();
		if (!supervisor) {
			die_with(control);
			supervise(init);
		}
	}
	bool channel = open_port(port);
	mlockall(MCL_CURRENT | MCL_FUTURE); /* fails without privilege, where it does not matter */
	if (!config_error[0])
		start_thread(report_thread);
	if (channel)
		start_thread(channel_thread);
	/* Every orphan of supervisor and worker ends up here. */
	for (;;) {
		if (wait(NULL) >= 0 || errno != ECHILD)
			continue;
		if (stopping)
			return 0;
		pause();
	}
}
