/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ABI between the program in the kernel and the sensor in user space. This header is the one
 * source of truth: sensor/kernel/layout.py mirrors it, and a test compiles it with the host's
 * compiler and compares the offset and size of each field.
 *
 * Fixed-width fields only, explicit padding, no pointers, no packed. Enums are append-only and 0
 * means nothing. Variable-length parts are spans: (offset, length) in bytes, relative to the start
 * of the record's tail.
 */
#ifndef SENSOR_EVENTS_H
#define SENSOR_EVENTS_H

#include <linux/types.h>

#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded" /* a hidden hole would leak kernel memory */
#endif

#define SENSOR_ABI_VERSION 1
#define SENSOR_COMM_LEN	   16

/* The first bytes of argv, up to this many, travel in the EXEC record, the rest in ARGS records. */
#define SENSOR_INLINE_LEN 4096
#define SENSOR_CHUNK_LEN  8192
/* Bounded by the kernel's limit of 32 tail calls, one a chunk. */
#define SENSOR_CHUNKS_MAX 26
/*
 * A longer argv is cut here, says SENSOR_F_ARGS_TRUNCATED, and always passes the filter. Less 8:
 * the part in the EXEC record ends on a whole stride of the search.
 */
#define SENSOR_ARGS_MAX (SENSOR_INLINE_LEN - 8 + SENSOR_CHUNK_LEN * SENSOR_CHUNKS_MAX)

/* Argv begins within so many bytes of the text, or the exec passes the filter unsearched. */
#define SENSOR_NAMES_MAX 8192

/*
 * Kept of each process, for its children's events: the path as given, with its NUL, where it is not
 * longer than this, and behind it the head of argv.
 */
#define SENSOR_IMAGE_LEN    368
#define SENSOR_FILENAME_LEN 96

#define SENSOR_PROCS_WAYS 8 /* places in the table that a process may stand in */

#define SENSOR_PATH_DEPTH   48 /* components of a path */
#define SENSOR_CGROUP_DEPTH 16 /* levels of a cgroup */
#define SENSOR_ANCESTORS    8
#define SENSOR_HIERARCHIES  2 /* cgroup v2, and one v1 controller */
/* Processes told with an event: ancestors, the session's leader, the group's leader. */
#define SENSOR_PROCESSES (SENSOR_ANCESTORS + 2)

/* The flight recorder: the last execs of each cgroup, in a table that user space only reads. */
#define SENSOR_RECENT	      32  /* execs a cgroup, a power of two */
#define SENSOR_RECENT_ARGS    96  /* bytes of argv kept of each */
#define SENSOR_RECORDERS      512 /* cgroups, a power of two */
#define SENSOR_RECORDERS_WAYS 4	  /* places a cgroup may stand in: the stalest is taken */

/* The filter: one table of states a bank, two banks so that one can be written while one works. */
#define SENSOR_BANKS	   2
#define SENSOR_CLASSES	   64
#define SENSOR_STATES_MAX  16384
#define SENSOR_STATE_START 0
#define SENSOR_STATE_HIT   1 /* a literal was found: every transition stays here */

/*
 * What became known of a process's cgroups: a table of words, key << 1 | SENSOR_CGROUP_HOST. The
 * key is the id in the default hierarchy, plus the id in a v1 hierarchy times SENSOR_CGROUP_V1. Ids
 * are counted up from small numbers, so two pairs of them never have one key.
 */
#define SENSOR_CGROUPS	   16384 /* a power of two: a cgroup's place is its key's end */
#define SENSOR_CGROUP_HOST 1	 /* no container; without it: user space was asked */
#define SENSOR_CGROUP_V1   0x9e3779b97f4a7c15ULL

/* Of the argv of an exec that failed so many bytes and arguments are told. */
#define SENSOR_FAILED_ARGS_LEN 4096
#define SENSOR_FAILED_ARGS     128

enum sensor_kind {
	SENSOR_KIND_INVALID = 0,
	SENSOR_KIND_EXEC = 1,	/* struct sensor_exec and its tail */
	SENSOR_KIND_ARGS = 2,	/* struct sensor_args: part of the argv of the EXEC that follows */
	SENSOR_KIND_FAILED = 3, /* as EXEC: an exec that failed */
};

/* What is missing, cut or special. */
enum sensor_flag {
	SENSOR_F_ARGS_TRUNCATED = 1 << 0,
	SENSOR_F_ARGS_READ_ERROR = 1 << 1,
	SENSOR_F_ARGS_CHUNKED = 1 << 2, /* the rest of argv came before, in ARGS records */
	SENSOR_F_EXE_UNLINKED = 1 << 3, /* no name left: deleted, or a memfd */
	SENSOR_F_EXE_PSEUDO = 1 << 4,	/* never had a place in the tree: memfd and the like */
	SENSOR_F_PATH_TRUNCATED = 1 << 5,
	SENSOR_F_CGROUP_TRUNCATED = 1 << 6,
	SENSOR_F_TAIL_FULL = 1 << 7,
	SENSOR_F_MATCHED = 1 << 8,  /* the filter found a literal */
	SENSOR_F_IN_TABLE = 1 << 9, /* processes: argv and filename are known */
	SENSOR_F_TTY = 1 << 10,	    /* tty_major and tty_minor are meant */
	SENSOR_F_EXE_UNREADABLE = 1 << 11,
	SENSOR_F_CGROUP_NEW = 1 << 12, /* passed unsearched: whether its cgroup is a container's? */
	SENSOR_F_AT_FD =
		1 << 14, /* the path as given starts at a descriptor, not where the process is */
};

/* Why a process is told with an event; several may hold at once. */
enum sensor_role {
	SENSOR_ROLE_ANCESTOR = 1 << 0,
	SENSOR_ROLE_SESSION_LEADER = 1 << 1,
	SENSOR_ROLE_GROUP_LEADER = 1 << 2,
};

enum sensor_mode {
	SENSOR_MODE_ALL =
		0, /* every exec is sent, those no rule could match only while there is room */
	SENSOR_MODE_MATCHING = 1, /* only what the filter cannot rule out */
	SENSOR_MODE_CONTAINERS =
		2, /* as ALL, but of the host only what the filter cannot rule out */
};

/* What is done with an exec, before anything of it is looked at. */
enum sensor_plan {
	SENSOR_PLAN_PASS = 0, /* any exec could match */
	SENSOR_PLAN_SEARCH = 1,
	SENSOR_PLAN_DROP = 2, /* none could */
};

/* Counters, one row of u64 a CPU, padded to cache lines. */
enum sensor_stat {
	SENSOR_STAT_EXECS = 0,	     /* execs seen */
	SENSOR_STAT_SENT = 1,	     /* execs sent to user space */
	SENSOR_STAT_FILTERED = 2,    /* execs that no rule could match */
	SENSOR_STAT_RING_FULL = 3,   /* execs lost: no room in the ring */
	SENSOR_STAT_ARGS_LOST = 4,   /* chunks of argv lost: no room in the ring */
	SENSOR_STAT_ARGS_ERROR = 5,  /* execs whose argv could not be read */
	SENSOR_STAT_TRUNCATED = 6,   /* execs whose argv was over the limit */
	SENSOR_STAT_PROCS_FULL = 7,  /* processes not kept: the table is full */
	SENSOR_STAT_CALL_FAILED = 8, /* execs lost: a tail call failed */
	SENSOR_STAT_NO_SCRATCH = 9,  /* execs lost: no scratch memory */
	SENSOR_STAT_SHED = 10, /* execs lost that no rule could match: no room in their ring */
	/* Execs that failed; they count in none of the others. */
	SENSOR_STAT_FAILED = 12,	  /* seen */
	SENSOR_STAT_FAILED_SENT = 13,	  /* sent to user space */
	SENSOR_STAT_FAILED_FILTERED = 14, /* no rule could match */
	SENSOR_STAT_FAILED_LOST = 15,	  /* lost: no room in the ring, or a tail call failed */
	SENSOR_STAT_FAILED_SHED = 16,	  /* lost that no rule could match: no room in the ring */
	SENSOR_STAT_COUNT = 32,
};

struct sensor_span {
	__u32 offset;
	__u32 length;
};

struct sensor_header {
	__u16 kind;    /* enum sensor_kind */
	__u16 version; /* SENSOR_ABI_VERSION */
	__u32 size;    /* bytes of the whole record */
	__u32 cpu;     /* records of one exec come from one CPU, in order */
	__u32 flags;   /* enum sensor_flag */
	__u64 exec_ns; /* CLOCK_BOOTTIME of the exec; with cpu, the exec's identity */
};

struct sensor_args {
	struct sensor_header header;
	__u32 index; /* from 0 */
	__u32 length;
	char data[SENSOR_CHUNK_LEN];
};

/* One cgroup of the process: names from the leaf to the root, each ended by a NUL. */
struct sensor_cgroup {
	__u64 id;
	struct sensor_span names;
};

/* What a process was started as: what cannot be read from a task later. A fork shares it. */
struct sensor_image {
	__u32 args_total;   /* bytes of its whole argv; text holds the first of them */
	__u16 filename_len; /* bytes of the path as given at the start of text, 0 if not kept */
	__u16 text_len;
	char text[SENSOR_IMAGE_LEN];
};

/*
 * A process other than the one that did the exec. Its executable's path follows it; the next one
 * starts at the next multiple of 8 bytes.
 */
struct sensor_process {
	__u64 start_ns;
	__u64 cgroup_id; /* in the default hierarchy */
	__u32 role;	 /* enum sensor_role */
	__u32 flags;	 /* enum sensor_flag */
	__u32 tgid, sid, pgid;
	__u32 euid, egid;
	__u32 tty_major, tty_minor;
	__u32 pid_ns, mnt_ns; /* inode numbers */
	__u32 reserved;
	struct sensor_span exe; /* path components, as in sensor_exec */
	char comm[SENSOR_COMM_LEN];
	struct sensor_image image;
};

/*
 * One exec. Paths are spans of components from the leaf to the root, each ended by a NUL; args is
 * argv as it lies in memory: each argument ended by a NUL. One that failed (FAILED) tells what was
 * asked for as filename and args; exe is what the process still runs, and previous, a struct
 * sensor_image, what that was started as.
 */
struct sensor_exec {
	struct sensor_header header;
	__u64 start_ns;	  /* CLOCK_BOOTTIME of the process's start: with tgid its identity */
	__u64 args_total; /* bytes of the whole argv */
	__u32 tgid, tid, ppid, old_tid; /* kernel terminology */
	__u32 ruid, rgid, euid, egid, suid, sgid;
	__u32 sid, pgid;
	__u32 tty_major, tty_minor;
	__u32 pid_ns, mnt_ns; /* inode numbers */
	__u32 error;	      /* why it failed, an errno; 0 if it did not */
	__u32 reserved;
	struct sensor_span args;
	struct sensor_span filename; /* as given to execve; nothing, not even a NUL: not readable */
	struct sensor_span previous;
	struct sensor_span exe;
	struct sensor_span cwd;
	struct sensor_span processes; /* struct sensor_process, each with its path behind it */
	struct sensor_cgroup cgroups[SENSOR_HIERARCHIES];
	char comm[SENSOR_COMM_LEN];
};

/*
 * A place in the process table. A process stands in one of SENSOR_PROCS_WAYS places, the first of
 * which is its number.
 */
struct sensor_proc {
	__u64 tgid; /* 0: free */
	struct sensor_image image;
};

/* One exec of the recent past. args is the head of argv as it lay in memory. */
struct sensor_recent {
	__u64 exec_ns; /* CLOCK_BOOTTIME; written last, 0 while the rest is written */
	__u32 tgid, ppid, euid;
	__u32 args_total; /* bytes of the whole argv */
	__u32 args_len;	  /* bytes in args */
	__u32 reserved;
	char args[SENSOR_RECENT_ARGS];
};

struct sensor_recorder {
	__u64 cgroup_id;
	__u64 last_ns;
	__u64 count; /* execs so far: the next one goes to count % SENSOR_RECENT */
	struct sensor_recent recent[SENSOR_RECENT];
};

/*
 * The filter's word: which bank is in use, and a plan for execs in what is known to be the host and
 * one for all others. One write switches all of it. 0, as it is at the start: everything passes.
 */
#define SENSOR_FILTER_BANK	 1
#define SENSOR_FILTER_PATHS	 2 /* the executable's path is searched, not only its name */
#define SENSOR_FILTER_PLAN_SHIFT 4
#define SENSOR_FILTER_HOST_SHIFT 6
#define SENSOR_FILTER_PLAN	 3
#define SENSOR_FILTER_HOST_STATE 16 /* shift: where the search of the host's execs starts */
/*
 * Execs that failed have a word of their own, for other rules want them: it has the bank and the
 * plans in the same places, and behind the host's start the start of all others.
 */
#define SENSOR_FILTER_STATE  32
#define SENSOR_FILTER_STATES 0xffff

/* Written by user space, read by the program. */
struct sensor_config {
	__u32 mode;	      /* enum sensor_mode */
	__u32 filter;	      /* the filter's word */
	__u32 knows_host;     /* sn_cgroups is kept, and it is of use */
	__u32 sensor_tgid;    /* the sensor: what it starts itself is never taken for the host's */
	__u32 pid_ns, mnt_ns; /* the host's inode numbers, 0 if unknown */
	__u64 failed;	      /* the filter's word for execs that failed */
};

/* A bank of the filter: a deterministic automaton over classes of bytes. */
struct sensor_bank {
	__u8 classes[256]; /* byte to class, below SENSOR_CLASSES */
	union {
		/* first, since BCC makes an initialiser of each map's value, element by element */
		__u64 first;
		__u16 next[SENSOR_STATES_MAX * SENSOR_CLASSES];
	};
};

#ifdef __clang__
#pragma clang diagnostic pop
#endif

#endif
