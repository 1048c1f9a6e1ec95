/*
 * A guest's balloon device driven from user space, because the kernel's driver cannot lie.
 *
 *   liar needy|phantom|absurd
 *
 *   needy    says in its statistics that nothing of its memory is available; leaves the balloon where it is
 *   phantom  says that all of it is available; tells the host at once that the balloon is where the host
 *            wants it, without giving a page
 *   absurd   says of everything that it is 2^64 - 1, and that the balloon holds 16 TiB: QEMU subtracts that from
 *            the guest's memory, and reports what is left as a number close to 2^64
 *
 * Runs as root in a guest that did not load virtio_balloon. It takes the device from its PCI driver, maps the
 * modern virtio registers, and serves the statistics queue by polling: without interrupts, and with one page
 * of memory, which holds the queue and the only buffer. It ends only when something is wrong, with a line
 * that says what.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define PAGE 4096u
#define DEVICES "/sys/bus/pci/devices"
#define POLL_SECONDS 1 /* each look costs a guest several exits, which are dear on an emulated host */

/* PCI */
#define PCI_COMMAND 4
#define PCI_COMMAND_MASTER 0x4
#define PCI_COMMAND_INTX_DISABLE 0x400
#define PCI_CAPABILITY_LIST 0x34
#define PCI_CAP_VENDOR 9

/* What a vendor capability of a virtio device locates. */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_DEVICE = 4 };

#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER 2
#define STATUS_DRIVER_OK 4
#define STATUS_FEATURES_OK 8
#define FEATURE_STATS_VQ (1u << 1)
#define FEATURE_VERSION_1 (1u << 0) /* of the upper 32 */
#define STATS_QUEUE 2
#define QUEUE_SIZE 1
#define NO_INTERRUPT 1
#define ABSURD UINT64_MAX

struct common {
	uint32_t device_feature_select, device_feature, driver_feature_select, driver_feature;
	uint16_t config_msix_vector, num_queues;
	uint8_t device_status, config_generation;
	uint16_t queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
	uint32_t queue_desc[2], queue_driver[2], queue_device[2];
};

struct balloon {
	uint32_t num_pages, actual;
};

enum { TAG_SWAP_IN, TAG_SWAP_OUT, TAG_MAJFLT, TAG_MINFLT, TAG_MEMFREE, TAG_MEMTOT, TAG_AVAIL, TAG_CACHES, TAGS };

struct stat_entry {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

/* The page that the device sees: a queue of one buffer, and the buffer. */
struct shared {
	struct {
		uint64_t address;
		uint32_t length;
		uint16_t flags, next;
	} descriptor;
	_Alignas(64) struct {
		uint16_t flags;
		_Atomic uint16_t index;
		uint16_t ring[QUEUE_SIZE];
	} available;
	_Alignas(64) struct {
		uint16_t flags;
		_Atomic uint16_t index;
		struct {
			uint32_t id, length;
		} ring[QUEUE_SIZE];
	} used;
	_Alignas(64) struct stat_entry stats[TAGS];
};

_Static_assert(sizeof(struct common) == 56, "virtio_pci_common_cfg");
_Static_assert(sizeof(struct stat_entry) == 10, "virtio_balloon_stat");
_Static_assert(sizeof(struct shared) <= PAGE, "one page");

__attribute__((format(printf, 1, 2))) static _Noreturn void fail(const char *format, ...)
{
	va_list args;
	fputs("liar: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* ---------------------------------------------------------------- the PCI device */

struct device {
	char path[PATH_MAX / 2];
	char name[64];
	int config;
	volatile struct common *common;
	volatile struct balloon *balloon;
	volatile uint16_t *notify; /* of the statistics queue */
};

static int open_in(const struct device *d, const char *file, int flags)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", d->path, file);
	return open(path, flags | O_CLOEXEC);
}

static unsigned read_number(const struct device *d, const char *file)
{
	char text[32] = "";
	int fd = open_in(d, file, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
		fail("cannot read %s of %s: %s", file, d->name, strerror(errno));
	close(fd);
	return (unsigned)strtoul(text, NULL, 16);
}

static void write_text(const struct device *d, const char *file, const char *text)
{
	int fd = open_in(d, file, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail("cannot write %s of %s: %s", file, d->name, strerror(errno));
	close(fd);
}

static void find_device(struct device *d)
{
	DIR *all = opendir(DEVICES);
	struct dirent *entry;
	while (all && (entry = readdir(all))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(d->name, sizeof d->name, "%.63s", entry->d_name);
		snprintf(d->path, sizeof d->path, "%s/%s", DEVICES, d->name);
		if (read_number(d, "vendor") != 0x1af4)
			continue;
		unsigned id = read_number(d, "device");
		if (id == 0x1002 || id == 0x1045) { /* transitional, modern */
			closedir(all);
			return;
		}
	}
	fail("no balloon device");
}

/* The kernel's driver must not serve the device as well, and no interrupt comes that nobody would handle. */
static void take_device(struct device *d)
{
	uint16_t command;
	char driver[PATH_MAX];
	snprintf(driver, sizeof driver, "%s/driver", d->path);
	if (!access(driver, F_OK))
		write_text(d, "driver/unbind", d->name);
	write_text(d, "enable", "1");
	d->config = open_in(d, "config", O_RDWR);
	if (d->config < 0 || pread(d->config, &command, sizeof command, PCI_COMMAND) != sizeof command)
		fail("cannot read the configuration of %s: %s", d->name, strerror(errno));
	command |= PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE;
	if (pwrite(d->config, &command, sizeof command, PCI_COMMAND) != sizeof command)
		fail("cannot make %s a bus master: %s", d->name, strerror(errno));
}

static void read_config(const struct device *d, void *to, size_t size, unsigned at)
{
	if (pread(d->config, to, size, at) != (ssize_t)size)
		fail("the configuration of %s ends before %u", d->name, at);
}

static char *map_bar(const struct device *d, unsigned bar)
{
	char file[16];
	struct stat status;
	snprintf(file, sizeof file, "resource%u", bar);
	int fd = open_in(d, file, O_RDWR);
	if (fd < 0 || fstat(fd, &status))
		fail("cannot open %s of %s: %s", file, d->name, strerror(errno));
	void *p = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		fail("cannot map %s of %s: %s", file, d->name, strerror(errno));
	close(fd);
	return p;
}

/* Where the registers of one kind are; `extra` gets the word behind the capability. */
static char *map_registers(const struct device *d, uint8_t kind, uint32_t *extra)
{
	struct {
		uint8_t vendor, next, length, kind, bar, unused[3];
		uint32_t offset, size, extra;
	} cap;
	uint8_t at;
	for (read_config(d, &at, 1, PCI_CAPABILITY_LIST); at; at = cap.next) {
		read_config(d, &cap, sizeof cap, at);
		if (cap.vendor != PCI_CAP_VENDOR || cap.kind != kind)
			continue;
		*extra = cap.extra;
		return map_bar(d, cap.bar) + cap.offset;
	}
	fail("%s has no virtio registers of kind %u", d->name, kind);
}

/* ---------------------------------------------------------------- memory that the device sees */

static uint64_t physical_address(const void *p)
{
	uint64_t entry;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	off_t at = (off_t)((uintptr_t)p / PAGE * sizeof entry);
	if (fd < 0 || pread(fd, &entry, sizeof entry, at) != sizeof entry)
		fail("cannot read pagemap: %s", strerror(errno));
	close(fd);
	uint64_t frame = entry & ((1ull << 55) - 1);
	if (!(entry >> 63) || !frame)
		fail("the page shared with the device has no address");
	return frame * PAGE;
}

static struct shared *share_page(void)
{
	/* A locked page may still be moved, by compaction. */
	int fd = open("/proc/sys/vm/compact_unevictable_allowed", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		fail("cannot keep compaction from locked memory: %s", strerror(errno));
	close(fd);
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0);
	if (p == MAP_FAILED)
		fail("cannot lock a page: %s", strerror(errno));
	memset(p, 0, PAGE);
	return p;
}

static void set_address(volatile uint32_t *reg, uint64_t address)
{
	reg[0] = (uint32_t)address;
	reg[1] = (uint32_t)(address >> 32);
}

/* ---------------------------------------------------------------- virtio */

static void require(struct device *d, uint8_t status)
{
	d->common->device_status = status;
	if (d->common->device_status != status)
		fail("%s does not take status %#x", d->name, status);
}

static void negotiate(struct device *d)
{
	static const uint32_t wanted[] = { FEATURE_STATS_VQ, FEATURE_VERSION_1 };
	require(d, 0); /* reset */
	require(d, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	for (uint32_t word = 0; word < 2; word++) {
		d->common->device_feature_select = word;
		if ((d->common->device_feature & wanted[word]) != wanted[word])
			fail("%s does not offer the features %#x of word %u", d->name, wanted[word], word);
		d->common->driver_feature_select = word;
		d->common->driver_feature = wanted[word];
	}
	require(d, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
}

static void start_queue(struct device *d, struct shared *s, uint64_t address)
{
	uint32_t multiplier;
	char *notify = map_registers(d, CAP_NOTIFY, &multiplier);
	s->descriptor.address = address + offsetof(struct shared, stats);
	s->descriptor.length = sizeof s->stats;
	s->available.flags = NO_INTERRUPT;
	d->common->queue_select = STATS_QUEUE;
	d->common->queue_size = QUEUE_SIZE;
	set_address(d->common->queue_desc, address + offsetof(struct shared, descriptor));
	set_address(d->common->queue_driver, address + offsetof(struct shared, available));
	set_address(d->common->queue_device, address + offsetof(struct shared, used));
	d->notify = (volatile uint16_t *)(notify + d->common->queue_notify_off * multiplier);
	d->common->queue_enable = 1;
	require(d, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

/* Hands the buffer to the device, which keeps it until it wants to know again. */
static void tell(struct device *d, struct shared *s, uint64_t available_bytes, uint64_t total_bytes)
{
	const uint64_t values[TAGS] = {
		[TAG_MEMTOT] = total_bytes, [TAG_MEMFREE] = available_bytes, [TAG_AVAIL] = available_bytes
	};
	for (uint16_t tag = 0; tag < TAGS; tag++)
		s->stats[tag] = (struct stat_entry){ tag, total_bytes == ABSURD ? ABSURD : values[tag] };
	atomic_fetch_add(&s->available.index, 1);
	*d->notify = STATS_QUEUE;
}

int main(int argc, char **argv)
{
	const char *role = argc == 2 ? argv[1] : "";
	bool phantom = !strcmp(role, "phantom"), absurd = !strcmp(role, "absurd");
	if (!phantom && !absurd && strcmp(role, "needy") != 0)
		fail("needy, phantom or absurd, not '%s'", role);
	/* Elsewhere this would be the machine's own balloon. */
	if (access("/bin/workload", X_OK))
		fail("only in a guest of the lab");

	struct device d = { 0 };
	struct sysinfo memory;
	uint32_t unused, acknowledged = 0;
	find_device(&d);
	take_device(&d);
	d.common = (volatile struct common *)map_registers(&d, CAP_COMMON, &unused);
	d.balloon = (volatile struct balloon *)map_registers(&d, CAP_DEVICE, &unused);
	struct shared *s = share_page();
	uint64_t address = physical_address(s);
	negotiate(&d);
	start_queue(&d, s, address);
	sysinfo(&memory);
	uint64_t total = absurd ? ABSURD : (uint64_t)memory.totalram * memory.mem_unit;
	if (absurd)
		d.balloon->actual = UINT32_MAX;
	fprintf(stderr, "liar: %s, by %s\n", role, d.name);
	for (;;) {
		if (phantom) {
			uint32_t wanted = d.balloon->num_pages;
			if (wanted != acknowledged)
				d.balloon->actual = acknowledged = wanted;
		}
		if (atomic_load(&s->used.index) == atomic_load(&s->available.index)) {
			if (physical_address(s) != address)
				fail("the page shared with the device was moved");
			tell(&d, s, phantom ? total : 0, total);
		}
		sleep(POLL_SECONDS);
	}
}
