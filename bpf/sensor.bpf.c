// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The programs in the kernel: an exec is seen, searched and told; a table of processes is kept.
 *
 * BCC compiles this file. No kernel headers are used: offsets of kernel structures come from BTF
 * as -DOFF_* flags (sensor/kernel/offsets.py), and bpf/include/ stands in for what BCC's prelude
 * includes. Map methods work only in this file, and there are no calls between functions: loops
 * are bounded, and long work goes from program to program by tail call:
 *
 *	on_exec -> scan -> scan_chunk ... -> emit_args -> emit_exec -> emit_processes
 *
 * The kernel refuses to enter a program that is running on the same CPU (it counts that as
 * recursion_misses), so the per-CPU scratch belongs to one exec at a time. Up to 6.18 preemption is
 * off in a raw tracepoint and a refusal does not happen. 7.2 was seen to preempt there, and then
 * refuses execs, forks and exits; so on such kernels the programs are attached to trace events by
 * perf (BY_PERF), which turns preemption off first. What is refused all the same the sensor counts.
 */
/* BCC makes a string of it, to the letter: spaces would make it another licence. */
/* clang-format off */
#define BPF_LICENSE Dual BSD/GPL
/* clang-format on */

#include "events.h"

#define PATH_LEN 4096 /* PATH_MAX */
#define NAME_LEN 256  /* NAME_MAX and its NUL */

#define TAIL_LEN                                                                                   \
	16384		/* a power of two: offsets are masked with it, so the verifier has a bound \
			 */
#define TAIL_SLACK 8192 /* the longest single append, beyond the last masked offset */

/* Indexes into sn_calls, as in sensor/kernel/loader.py. */
#define CALL_SCAN	    0
#define CALL_SCAN_CHUNK	    1
#define CALL_EMIT_ARGS	    2
#define CALL_EMIT_EXEC	    3
#define CALL_EMIT_PROCESSES 4
#define CALL_JUDGE	    5
#define CALL_SCAN_PATH	    6

/* Bytes searched between two looks at the bounds: fewer branches for the verifier to follow. */
#define STRIDE 8

/*
 * A longer argv than this is asked first whether it is the host's. Fits the text's first part, so
 * that a search that starts again needs no chunk: tail calls are limited.
 */
#define SENSOR_SHORT 512

#define F_MMAPABLE 1024 /* BPF_F_MMAPABLE: user space reads and writes it without bpf() */

#define PIDTYPE_TGID 1
#define PIDTYPE_PGID 2
#define PIDTYPE_SID  3

struct scratch {
	u64 task;
	u64 exe_file;
	u64 arg_rest;	 /* first byte of argv that is not in the tail */
	u64 arg_pos;	 /* next byte of argv to read */
	u64 arg_end;	 /* as far as argv is read */
	u32 state;	 /* of the automaton */
	u32 filter;	 /* its word, the same for the whole exec */
	u32 judged;	 /* it is known whether this is the host, or it does not matter */
	u32 plan;	 /* enum sensor_plan */
	u32 send;	 /* even if no rule could match */
	u32 exe_told;	 /* the executable's path is in the tail already */
	u32 exe_flags;	 /* and what is to be said of it */
	u32 could_match; /* a rule: which ring it goes to */
	u32 used;	 /* bytes of the tail */
	u32 told;	 /* roles of the processes told so far */
	u32 top;	 /* no ancestor is left */
	struct sensor_exec exec;
	char tail[TAIL_LEN + TAIL_SLACK]; /* right behind exec: both are sent in one piece */
};

/* Execs that no rule could match have a ring of their own: they never take the others' room. */
BPF_RINGBUF_OUTPUT(sn_events, RING_PAGES);
BPF_RINGBUF_OUTPUT(sn_others, OTHERS_PAGES);
/* One chunk of a long argv, and room for its padding. */
struct chunk {
	struct sensor_args args;
	u64 padding;
};

BPF_F_TABLE("array", u32, u64, sn_stats, CPUS *SENSOR_STAT_COUNT, F_MMAPABLE);
BPF_F_TABLE("array", u32, struct sensor_config, sn_config, 1, F_MMAPABLE);
BPF_F_TABLE("array", u32, struct sensor_bank, sn_banks, SENSOR_BANKS, F_MMAPABLE);
BPF_F_TABLE("array", u32, struct sensor_recorder, sn_recorders, SENSOR_RECORDERS, F_MMAPABLE);
BPF_F_TABLE("array", u32, struct sensor_proc, sn_procs, PROCS_MAX, F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, sn_cgroups, SENSOR_CGROUPS, F_MMAPABLE);
BPF_PERCPU_ARRAY(sn_scratch, struct scratch, 1);
BPF_PERCPU_ARRAY(sn_chunk, struct chunk, 1);
BPF_PROG_ARRAY(sn_calls, 8);

static __always_inline u64 read_u64(u64 address)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u32 read_u32(u64 address)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

/*
 * A member of a kernel structure whose type the verifier knows: it lets such a member be read in
 * place, a fault reads as 0. That is a load where read_u64() is a call, ten times as much. The type
 * is lost in a map and by arithmetic.
 */
static __always_inline u64 member(u64 base, const u32 offset)
{
	u64 value;

	asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(value) : "r"(base), "i"(offset));
	return value;
}

static __always_inline u32 member_u32(u64 base, const u32 offset)
{
	u64 value;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(value) : "r"(base), "i"(offset));
	return value;
}

/*
 * What a hook tells. As a raw tracepoint it has the kernel's own arguments, with their types; by
 * perf it has a record of the event, and the task is the current one, which it is at each of our
 * hooks.
 */
#ifdef BY_PERF
#define TASK(ctx)	   ((u64)bpf_get_current_task_btf())
#define RECORD_U32(ctx, n) (*(u32 *)((char *)(ctx) + (n)))
#define OLD_TID(ctx)	   RECORD_U32(ctx, OFF_EVENT_EXEC_OLD_PID)
/* a place within the record, and its length in the upper half */
#define FILENAME(ctx)  ((u64)(ctx) + (RECORD_U32(ctx, OFF_EVENT_EXEC_FILENAME) & 0xffff))
#define CHILD_PID(ctx) RECORD_U32(ctx, OFF_EVENT_FORK_PID)
#define IS_THREAD(ctx) (RECORD_U32(ctx, OFF_EVENT_FORK_FLAGS) & CLONE_THREAD)
#define CLONE_THREAD   0x10000
#else
#define TASK(ctx)      ((ctx)->args[0])
#define OLD_TID(ctx)   ((ctx)->args[1])
#define FILENAME(ctx)  member((ctx)->args[2], OFF_BPRM_FILENAME)
#define CHILD_PID(ctx) member_u32((ctx)->args[1], OFF_TASK_PID)
#define IS_THREAD(ctx) (CHILD_PID(ctx) != member_u32((ctx)->args[1], OFF_TASK_TGID))
#endif

static __always_inline void count(u32 stat)
{
	u32 key = bpf_get_smp_processor_id() * SENSOR_STAT_COUNT + stat;
	u64 *value = sn_stats.lookup(&key);

	if (value)
		*value += 1;
}

/* Appends a kernel string and its NUL to the tail; returns the bytes appended, 0 on failure. */
static __always_inline u32 append_string(struct scratch *s, u64 string, u32 limit)
{
	u32 used = s->used;
	long n;

	if (used >= TAIL_LEN) {
		s->exec.header.flags |= SENSOR_F_TAIL_FULL;
		return 0;
	}
	n = bpf_probe_read_kernel_str(&s->tail[used & (TAIL_LEN - 1)], limit, (void *)string);
	if (n <= 0 || n > limit)
		return 0;
	s->used = used + n;
	return n;
}

/*
 * Appends the names of a path from the leaf upwards, as d_path walks: through mount points, up to
 * the root that the process sees. Returns SENSOR_F_PATH_TRUNCATED and SENSOR_F_EXE_PSEUDO.
 */
static __always_inline u32 append_path(struct scratch *s, u64 path, u64 root,
				       struct sensor_span *span)
{
	u64 mnt = read_u64(path + OFF_PATH_MNT), dentry = read_u64(path + OFF_PATH_DENTRY);
	u64 root_mnt = read_u64(root + OFF_PATH_MNT),
	    root_dentry = read_u64(root + OFF_PATH_DENTRY);
	u32 start = s->used, flags = 0;
	u64 above;
	int i;

	for (i = 0; i < SENSOR_PATH_DEPTH; i++) {
		if (!dentry || (dentry == root_dentry && mnt == root_mnt))
			break;
		if (dentry == read_u64(mnt + OFF_VFSMOUNT_MNT_ROOT)) {
			u64 mount = mnt - OFF_MOUNT_MNT;

			above = read_u64(mount + OFF_MOUNT_MNT_PARENT);
			if (!above || above == mount)
				break;
			dentry = read_u64(mount + OFF_MOUNT_MNT_MOUNTPOINT);
			mnt = above + OFF_MOUNT_MNT;
			continue;
		}
		if (!append_string(s, read_u64(dentry + OFF_DENTRY_D_NAME), NAME_LEN)) {
			flags |= SENSOR_F_PATH_TRUNCATED;
			break;
		}
		above = read_u64(dentry + OFF_DENTRY_D_PARENT);
		if (above == dentry) {
			flags |= SENSOR_F_EXE_PSEUDO;
			break;
		}
		dentry = above;
	}
	if (i == SENSOR_PATH_DEPTH)
		flags |= SENSOR_F_PATH_TRUNCATED;
	span->offset = start;
	span->length = s->used - start;
	return flags;
}

static __always_inline void append_cgroup(struct scratch *s, u64 cgroup, struct sensor_cgroup *out)
{
	u64 kn = read_u64(cgroup + OFF_CGROUP_KN), above;
	u32 start = s->used;
	int i;

	out->id = read_u64(kn + OFF_KERNFS_NODE_ID);
	for (i = 0; i < SENSOR_CGROUP_DEPTH; i++) {
		above = read_u64(kn + OFF_KERNFS_NODE_PARENT);
		if (!above)
			break; /* the root has no name */
		if (!append_string(s, read_u64(kn + OFF_KERNFS_NODE_NAME), NAME_LEN)) {
			s->exec.header.flags |= SENSOR_F_CGROUP_TRUNCATED;
			break;
		}
		kn = above;
	}
	if (i == SENSOR_CGROUP_DEPTH)
		s->exec.header.flags |= SENSOR_F_CGROUP_TRUNCATED;
	out->names.offset = start;
	out->names.length = s->used - start;
}

/*
 * Both hierarchies in which a container can be seen. Hybrid hosts have some containers in v1
 * controllers only, so the first controller in which the process is not at the root is told beside
 * v2's. On a pure v1 host v2's is the root for everybody.
 */
static __always_inline void append_cgroups(struct scratch *s, u64 task)
{
	u64 css_set = read_u64(task + OFF_TASK_CGROUPS);
	u64 unified = read_u64(css_set + OFF_CSS_SET_DFL_CGRP);
	u64 unified_root = read_u64(unified + OFF_CGROUP_ROOT);
	u64 css, cgroup;
	int i;

	append_cgroup(s, unified, &s->exec.cgroups[0]);
	s->exec.cgroups[1].id = 0;
	s->exec.cgroups[1].names.offset = 0;
	s->exec.cgroups[1].names.length = 0;
	for (i = 0; i < CGROUP_SUBSYS_COUNT; i++) {
		css = read_u64(css_set + OFF_CSS_SET_SUBSYS + i * 8);
		if (!css)
			continue;
		cgroup = read_u64(css + OFF_CSS_CGROUP);
		if (read_u64(cgroup + OFF_CGROUP_ROOT) == unified_root)
			continue; /* this controller is v2's */
		if (!read_u32(cgroup + OFF_CGROUP_LEVEL))
			continue;
		append_cgroup(s, cgroup, &s->exec.cgroups[1]);
		break;
	}
}

static __always_inline void read_namespaces(u64 task, u32 *pid_ns, u32 *mnt_ns)
{
	u64 nsproxy = read_u64(task + OFF_TASK_NSPROXY), pid = read_u64(task + OFF_TASK_THREAD_PID);
	u64 innermost = pid + OFF_PID_NUMBERS + read_u32(pid + OFF_PID_LEVEL) * SIZE_UPID;

	*mnt_ns = read_u32(read_u64(nsproxy + OFF_NSPROXY_MNT_NS) + OFF_MNT_NAMESPACE_INUM);
	*pid_ns = read_u32(read_u64(innermost + OFF_UPID_NS) + OFF_PID_NAMESPACE_INUM);
}

/* The same two cgroups as one number; see SENSOR_CGROUPS. */
static __always_inline u64 cgroups_key(u64 task)
{
	u64 css_set = member(task, OFF_TASK_CGROUPS), links = css_set + OFF_CSS_SET_CGRP_LINKS;
	u64 unified = member(css_set, OFF_CSS_SET_DFL_CGRP);
	u64 key = member(member(unified, OFF_CGROUP_KN), OFF_KERNFS_NODE_ID);
	u64 root = member(unified, OFF_CGROUP_ROOT), css, cgroup;
	u32 found = 0;

	/* one link a hierarchy: where there is but one, it is the default one */
	if (member(member(css_set, OFF_CSS_SET_CGRP_LINKS), 0) == links)
		return key;
#pragma unroll
	for (int i = 0; i < CGROUP_SUBSYS_COUNT; i++) {
		css = member(css_set, OFF_CSS_SET_SUBSYS + i * 8);
		if (found || !css)
			continue;
		cgroup = member(css, OFF_CSS_CGROUP);
		if (member(cgroup, OFF_CGROUP_ROOT) == root ||
		    !member_u32(cgroup, OFF_CGROUP_LEVEL))
			continue;
		key += member(member(cgroup, OFF_CGROUP_KN), OFF_KERNFS_NODE_ID) * SENSOR_CGROUP_V1;
		found = 1;
	}
	return key;
}

/* What is known of a process's cgroups. */
#define CGROUP_IS_UNKNOWN 0
#define CGROUP_IS_HOST	  1
#define CGROUP_IS_NEW	  2 /* unknown, and nobody was asked so far; now somebody is */

/* What is not known is never the host, nor is what the sensor starts itself. */
static __always_inline u32 judge_cgroups(u64 task, struct scratch *s, struct sensor_config *config,
					 u32 ask)
{
	u64 key = cgroups_key(task), *word;
	u32 place = key & (SENSOR_CGROUPS - 1);

	word = sn_cgroups.lookup(&place);
	if (!word || s->exec.ppid == config->sensor_tgid)
		return CGROUP_IS_UNKNOWN;
	if (*word == (key << 1 | SENSOR_CGROUP_HOST))
		return CGROUP_IS_HOST;
	if (!ask || *word == key << 1)
		return CGROUP_IS_UNKNOWN;
	*word = key << 1;
	return CGROUP_IS_NEW;
}

/* Whether a process has the host's namespaces, as far as they are known. */
static __always_inline u32 in_host_namespaces(u64 task, struct sensor_config *config)
{
	u32 pid_ns, mnt_ns;

	read_namespaces(task, &pid_ns, &mnt_ns);
	return config->pid_ns && pid_ns == config->pid_ns && config->mnt_ns &&
	       mnt_ns == config->mnt_ns;
}

/* A process's place in the table; 0 if it has none. */
static __always_inline struct sensor_proc *proc_of(u32 tgid)
{
	struct sensor_proc *proc;
	u32 way, key;

	for (way = 0; way < SENSOR_PROCS_WAYS; way++) {
		key = (tgid + way * (PROCS_MAX / SENSOR_PROCS_WAYS)) & (PROCS_MAX - 1);
		proc = sn_procs.lookup(&key);
		if (proc && proc->tgid == tgid)
			return proc;
	}
	return 0;
}

/*
 * A free place for a process that has none, which is taken; 0 if there is none. Two CPUs may take
 * one place at once, for two processes: is_placed() says in the end whose it is.
 */
static __always_inline struct sensor_proc *new_place(u32 tgid)
{
	struct sensor_proc *proc;
	u32 way, key;

	for (way = 0; way < SENSOR_PROCS_WAYS; way++) {
		key = (tgid + way * (PROCS_MAX / SENSOR_PROCS_WAYS)) & (PROCS_MAX - 1);
		proc = sn_procs.lookup(&key);
		if (proc && (!proc->tgid || proc->tgid == tgid)) {
			proc->tgid = tgid;
			return proc;
		}
	}
	return 0;
}

/* Only what is used is copied: the table is large, and most of it is in no cache. */
static __always_inline void set_image(struct sensor_image *image, char *text, u64 length)
{
	if (length > SENSOR_IMAGE_LEN)
		length = SENSOR_IMAGE_LEN;
	asm volatile("" : "+r"(length));
	if (length > SENSOR_IMAGE_LEN) /* never so; the verifier wants to see it */
		return;
	image->text_len = length;
	bpf_probe_read_kernel(image->text, length, text);
}

/* Whoever comes second finds the first's entry spoilt, or its own: nobody keeps a mixture. */
static __always_inline u32 is_placed(struct sensor_proc *proc, u32 tgid)
{
	asm volatile("" ::: "memory");
	if (proc->tgid == tgid)
		return 1;
	proc->tgid = 0;
	return 0;
}

/* A process's session or group, as numbered in the initial pid namespace. */
static __always_inline u32 pid_number(u64 signal, u32 type)
{
	return read_u32(read_u64(signal + OFF_SIGNAL_PIDS + type * 8) + OFF_PID_NUMBERS);
}

/* The task that leads a process's session or group; 0 when it is gone. */
static __always_inline u64 pid_leader(u64 signal, u32 type)
{
	u64 pid = read_u64(signal + OFF_SIGNAL_PIDS + type * 8);
	u64 node = read_u64(pid + OFF_PID_TASKS + PIDTYPE_TGID * 8);

	return node ? node - OFF_TASK_PID_LINKS - PIDTYPE_TGID * 16 : 0;
}

static __always_inline u32 read_tty(u64 signal, u32 *major, u32 *minor)
{
	u64 tty = read_u64(signal + OFF_SIGNAL_TTY), driver;

	*major = 0;
	*minor = 0;
	if (!tty)
		return 0;
	driver = read_u64(tty + OFF_TTY_DRIVER);
	*major = read_u32(driver + OFF_TTY_DRIVER_MAJOR);
	*minor = read_u32(driver + OFF_TTY_DRIVER_MINOR_START) + read_u32(tty + OFF_TTY_INDEX);
	return SENSOR_F_TTY;
}

static __always_inline u32 next_state(struct sensor_bank *bank, u32 state, u8 byte)
{
	u64 row = (state & (SENSOR_STATES_MAX - 1)) * SENSOR_CLASSES;

	/* else the compiler makes an OR of the sum, whose bounds the verifier of 6.1 cannot tell */
	asm volatile("" : "+r"(row));
	return bank->next[row + (bank->classes[byte] & (SENSOR_CLASSES - 1))];
}

/*
 * Runs n bytes of text, from an index on, through the automaton, rounded up to whole strides:
 * whoever fills the text pads it with NULs. limit is a constant that the verifier can count to,
 * mask keeps an index inside the text. One branch a stride, and none for a hit, which absorbs: the
 * verifier follows each branch of each round, and gives up at 8192.
 */
#define SEARCH(bank, state, text, from, mask, n, limit)                                            \
	do {                                                                                       \
		u32 at, byte;                                                                      \
                                                                                                   \
		for (at = 0; at < (limit); at += STRIDE) {                                         \
			/* keeps the compiler from dropping the masks, which the verifier needs */ \
			asm volatile("" : "+r"(at));                                               \
			if (at >= (n))                                                             \
				break;                                                             \
			_Pragma("unroll") for (byte = 0; byte < STRIDE; byte++) state =            \
				next_state(bank, state, (text)[((from) + at + byte) & (mask)]);    \
		}                                                                                  \
	} while (0)

/*
 * Keeps the exec among the last ones of its cgroup, in the place that is the cgroup's own or, of a
 * few, the stalest. Two CPUs may write for one cgroup at once: then one exec is missing from the
 * history, which is no more than that.
 */
static __always_inline void record_recent(struct scratch *s, u64 task, u32 args, u32 length)
{
	u64 unified = member(member(task, OFF_TASK_CGROUPS), OFF_CSS_SET_DFL_CGRP);
	u64 id = member(member(unified, OFF_CGROUP_KN), OFF_KERNFS_NODE_ID), stalest = ~0ULL;
	u32 way, key, taken = 0;
	struct sensor_recorder *recorder;
	struct sensor_recent *recent;

	if (id <= 1) /* the root, and everybody on a host with cgroup v1 alone */
		return;
	for (way = 0; way < SENSOR_RECORDERS_WAYS; way++) {
		key = (id + way) & (SENSOR_RECORDERS - 1);
		recorder = sn_recorders.lookup(&key);
		if (!recorder)
			return;
		if (recorder->cgroup_id == id) {
			taken = key;
			break;
		}
		if (recorder->last_ns < stalest) {
			stalest = recorder->last_ns;
			taken = key;
		}
	}
	recorder = sn_recorders.lookup(&taken);
	if (!recorder)
		return;
	if (recorder->cgroup_id != id) {
		recorder->cgroup_id = id;
		recorder->count = 0;
	}
	recorder->last_ns = s->exec.header.exec_ns;
	recent = &recorder->recent[recorder->count & (SENSOR_RECENT - 1)];
	recent->exec_ns = 0;
	recent->tgid = s->exec.tgid;
	recent->ppid = s->exec.ppid;
	recent->euid = member_u32(member(task, OFF_TASK_CRED), OFF_CRED_EUID);
	recent->args_total = s->exec.args_total;
	recent->args_len = length > SENSOR_RECENT_ARGS ? SENSOR_RECENT_ARGS : length;
	bpf_probe_read_kernel(recent->args, SENSOR_RECENT_ARGS, &s->tail[args & (TAIL_LEN - 1)]);
	recent->exec_ns = s->exec.header.exec_ns;
	recorder->count += 1;
}

/*
 * Hook: sched_process_exec, once for each exec that succeeded, whichever call it came by (execve,
 * execveat, fexecve). The new image is in place and has not run: argv between mm->arg_start and
 * arg_end is whole, and nobody can have changed it, which is not so at the entry of the system
 * call. Process context. Arguments: task, the tid before the exec, linux_binprm.
 */
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = TASK(ctx), mm, start, length, file, path;
	u32 zero = 0, begin, name, used, n, verdict, *flags;
	struct sensor_config *config;
	struct sensor_proc *proc;
	struct scratch *s;

	count(SENSOR_STAT_EXECS);
	s = sn_scratch.lookup(&zero);
	config = sn_config.lookup(&zero);
	if (!s || !config) {
		count(SENSOR_STAT_NO_SCRATCH);
		return 0;
	}
	mm = member(task, OFF_TASK_MM);
	start = member(mm, OFF_MM_ARG_START);
	length = member(mm, OFF_MM_ARG_END) - start;
	if (length >> 63)
		length = 0;
	file = member(mm, OFF_MM_EXE_FILE);
	s->task = task;
	s->exe_file = file;
	s->exe_told = 0;
	s->state = SENSOR_STATE_START;
	s->filter = config->filter;
	s->send = config->mode != SENSOR_MODE_MATCHING;
	s->judged = !config->knows_host;
	/* flags and plan live in the map, where the verifier does not follow their values */
	flags = &s->exec.header.flags;
	*flags = 0;
	s->exec.header.exec_ns = bpf_ktime_get_boot_ns();
	s->exec.tgid = member_u32(task, OFF_TASK_TGID);
	s->exec.ppid = member_u32(member(task, OFF_TASK_REAL_PARENT), OFF_TASK_TGID);
	s->exec.old_tid = OLD_TID(ctx);
	s->exec.args_total = length;

	/* Is this the host? A short argv is searched faster than this is said: then a hit asks. */
	s->plan = config->filter >> SENSOR_FILTER_PLAN_SHIFT & SENSOR_FILTER_PLAN;
	if (!s->judged && (length > SENSOR_SHORT || config->mode == SENSOR_MODE_CONTAINERS)) {
		s->judged = 1;
		verdict = judge_cgroups(task, s, config, 1);
		if (verdict == CGROUP_IS_NEW)
			*flags |= SENSOR_F_CGROUP_NEW;
		if (verdict == CGROUP_IS_HOST) {
			s->plan = config->filter >> SENSOR_FILTER_HOST_SHIFT & SENSOR_FILTER_PLAN;
			s->state = config->filter >> SENSOR_FILTER_HOST_STATE;
			if (config->mode == SENSOR_MODE_CONTAINERS)
				s->send = !in_host_namespaces(task, config);
		}
	}

	if (length > SENSOR_ARGS_MAX) {
		*flags |= SENSOR_F_ARGS_TRUNCATED;
		length = SENSOR_ARGS_MAX;
		count(SENSOR_STAT_TRUNCATED);
	}
	if (s->plan == SENSOR_PLAN_DROP && !s->send && length > SENSOR_IMAGE_LEN)
		length = SENSOR_IMAGE_LEN; /* as much as the process table keeps */

	/*
	 * The text to search: NUL, name of the file, NUL, path as given, NUL, argv. A NUL stands at
	 * both ends of each, so that a literal can ask for a whole name or argument; the filter
	 * reads '/' as NUL, so one stands before a basename, too.
	 */
	s->tail[0] = 0;
	s->used = 1;
	path = member(file, OFF_FILE_F_PATH + OFF_PATH_DENTRY);
	append_string(s, member(path, OFF_DENTRY_D_NAME), NAME_LEN);
	begin = s->used;
	name = append_string(s, FILENAME(ctx), PATH_LEN);
	s->exec.filename.offset = begin;
	s->exec.filename.length = name;
	used = s->used;
	if (name <= 1 || used > SENSOR_NAMES_MAX) /* comm is its name, which is not searched */
		*flags |= SENSOR_F_MATCHED;

	/* where more follows, the text ends on a whole stride: padding would stand between */
	n = length;
	if (length > SENSOR_INLINE_LEN)
		n = SENSOR_INLINE_LEN - ((used + SENSOR_INLINE_LEN) & (STRIDE - 1));
	s->arg_pos = start + n;
	s->arg_end = start + length;
	if (bpf_probe_read_user(&s->tail[used & (TAIL_LEN - 1)], n & (TAIL_SLACK - 1),
				(void *)start)) {
		*flags |= SENSOR_F_ARGS_READ_ERROR;
		s->arg_pos = s->arg_end;
		n = 0;
		count(SENSOR_STAT_ARGS_ERROR);
	}
	s->arg_rest = s->arg_pos;
	s->exec.args.offset = used;
	s->exec.args.length = n;
	s->used = used + n;
	*(u64 *)&s->tail[(used + n) & (TAIL_LEN - 1)] = 0; /* the padding of the last stride */

	/* The process table: exec replaces what fork copied. */
	proc = proc_of(s->exec.tgid);
	if (!proc)
		proc = new_place(s->exec.tgid);
	if (proc) {
		if (name > SENSOR_FILENAME_LEN) {
			name = 0;
			begin = used;
		}
		set_image(&proc->image, &s->tail[begin & (TAIL_LEN - 1)], name + n);
		proc->image.args_total = s->exec.args_total;
		proc->image.filename_len = name;
		if (!is_placed(proc, s->exec.tgid))
			proc = 0;
	}
	if (!proc)
		count(SENSOR_STAT_PROCS_FULL);

	if (s->plan == SENSOR_PLAN_DROP) {
		if (!s->send) {
			count(SENSOR_STAT_FILTERED);
			return 0;
		}
		*flags &= ~SENSOR_F_MATCHED;
	} else if (s->plan == SENSOR_PLAN_PASS) {
		*flags |= SENSOR_F_MATCHED;
	}
	record_recent(s, task, used, n);
	/* what cannot be searched whole always passes */
	s->could_match = *flags && s->plan != SENSOR_PLAN_DROP;
	if (*flags || s->plan == SENSOR_PLAN_DROP)
		sn_calls.call((void *)ctx, CALL_EMIT_ARGS);
	else
		sn_calls.call((void *)ctx, CALL_SCAN);
	count(SENSOR_STAT_CALL_FAILED);
	return 0;
}

/* After a search that found a literal. Where it was not asked whether this is the host, it is now.
 */
static __always_inline void found(struct bpf_raw_tracepoint_args *ctx, struct scratch *s)
{
	if (s->judged) {
		s->exec.header.flags |= SENSOR_F_MATCHED;
		s->could_match = 1;
		sn_calls.call((void *)ctx, CALL_EMIT_ARGS);
	} else {
		sn_calls.call((void *)ctx, CALL_JUDGE);
	}
	count(SENSOR_STAT_CALL_FAILED);
}

/* After one that found none: the next part of argv, then the path, then it is out. */
static __always_inline void not_found(struct bpf_raw_tracepoint_args *ctx, struct scratch *s,
				      u32 path)
{
	if (s->arg_pos < s->arg_end) {
		sn_calls.call((void *)ctx, CALL_SCAN_CHUNK);
	} else if (path) {
		sn_calls.call((void *)ctx, CALL_SCAN_PATH);
	} else if (s->send) {
		sn_calls.call((void *)ctx, CALL_EMIT_ARGS);
	} else {
		count(SENSOR_STAT_FILTERED);
		return;
	}
	count(SENSOR_STAT_CALL_FAILED);
}

/* Searches the names and the first bytes of argv, as they lie in the tail. */
int scan(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0, state, key, n;
	struct sensor_bank *bank;
	struct scratch *s;

	s = sn_scratch.lookup(&zero);
	if (!s)
		return 0;
	state = s->state;
	key = s->filter & SENSOR_FILTER_BANK;
	bank = sn_banks.lookup(&key);
	if (!bank)
		return 0;
	n = s->used;
	SEARCH(bank, state, s->tail, 0, TAIL_LEN - 1, n, SENSOR_NAMES_MAX + SENSOR_INLINE_LEN);
	s->state = state;
	if (state == SENSOR_STATE_HIT)
		found(ctx, s);
	else
		not_found(ctx, s, s->filter & SENSOR_FILTER_PATHS);
	return 0;
}

/* After a hit, where it was not asked before: is this the host, where other rules may apply? */
int judge(struct bpf_raw_tracepoint_args *ctx)
{
	struct sensor_config *config;
	struct scratch *s;
	u32 zero = 0, plan;

	s = sn_scratch.lookup(&zero);
	config = sn_config.lookup(&zero);
	if (!s || !config)
		return 0;
	s->judged = 1;
	plan = SENSOR_PLAN_PASS;
	if (judge_cgroups(TASK(ctx), s, config, 0) == CGROUP_IS_HOST)
		plan = s->filter >> SENSOR_FILTER_HOST_SHIFT & SENSOR_FILTER_PLAN;
	if (plan == SENSOR_PLAN_SEARCH) {
		s->state = s->filter >> SENSOR_FILTER_HOST_STATE;
		sn_calls.call((void *)ctx, CALL_SCAN);
		count(SENSOR_STAT_CALL_FAILED);
	} else if (plan == SENSOR_PLAN_PASS) {
		found(ctx, s);
	} else {
		s->arg_pos = s->arg_end;
		not_found(ctx, s, 0);
	}
	return 0;
}

/* Reads and searches the next chunk of a long argv; calls itself until the end or a hit. */
int scan_chunk(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0, state, key, n;
	struct sensor_bank *bank;
	struct chunk *chunk;
	struct scratch *s;
	u64 left;

	s = sn_scratch.lookup(&zero);
	chunk = sn_chunk.lookup(&zero);
	if (!s || !chunk)
		return 0;
	key = s->filter & SENSOR_FILTER_BANK;
	bank = sn_banks.lookup(&key);
	if (!bank)
		return 0;
	left = s->arg_end - s->arg_pos;
	n = left > SENSOR_CHUNK_LEN ? SENSOR_CHUNK_LEN : left;
	asm volatile("" : "+r"(n));
	if (n > SENSOR_CHUNK_LEN) /* never so; the verifier wants to see it */
		return 0;
	if (bpf_probe_read_user(chunk->args.data, n, (void *)s->arg_pos)) {
		s->exec.header.flags |= SENSOR_F_ARGS_READ_ERROR;
		s->could_match = 1;
		count(SENSOR_STAT_ARGS_ERROR);
		sn_calls.call((void *)ctx, CALL_EMIT_ARGS);
		count(SENSOR_STAT_CALL_FAILED);
		return 0;
	}
	*(u64 *)&chunk->args.data[n] = 0; /* the padding of the last stride */
	state = s->state;
	SEARCH(bank, state, chunk->args.data, 0, SENSOR_CHUNK_LEN - 1, n, SENSOR_CHUNK_LEN);
	s->state = state;
	s->arg_pos += n;
	if (state == SENSOR_STATE_HIT)
		found(ctx, s);
	else
		not_found(ctx, s, s->filter & SENSOR_FILTER_PATHS);
	return 0;
}

/*
 * Where a rule names a path, the executable's is searched, too, once nothing else was found: its
 * components from the leaf to the root, a NUL before and behind each, and one more, the root's.
 */
int scan_path(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0, begin, state, key, n;
	struct sensor_bank *bank;
	struct scratch *s;
	u64 root;

	s = sn_scratch.lookup(&zero);
	if (!s)
		return 0;
	key = s->filter & SENSOR_FILTER_BANK;
	bank = sn_banks.lookup(&key);
	if (!bank)
		return 0;
	begin = s->used;
	s->tail[begin & (TAIL_LEN - 1)] = 0;
	s->used = begin + 1;
	root = read_u64(s->task + OFF_TASK_FS) + OFF_FS_ROOT;
	s->exe_flags = append_path(s, s->exe_file + OFF_FILE_F_PATH, root, &s->exec.exe);
	s->exe_told = 1;
	*(u64 *)&s->tail[s->used & (TAIL_LEN - 1)] = 0; /* the root's NUL, and the padding */
	n = s->used + 1 - begin;
	state = SENSOR_STATE_HIT; /* what is not there, or too much, is not searched and passes */
	if (!(s->exe_flags & SENSOR_F_PATH_TRUNCATED) && n <= PATH_LEN) {
		state = s->state;
		SEARCH(bank, state, s->tail, begin, TAIL_LEN - 1, n, PATH_LEN);
	}
	s->state = state;
	if (state == SENSOR_STATE_HIT)
		found(ctx, s);
	else
		not_found(ctx, s, 0);
	return 0;
}

/* Sends the rest of a long argv, ahead of the exec's own record. */
int emit_args(struct bpf_raw_tracepoint_args *ctx)
{
	struct sensor_args *args;
	struct chunk *chunk;
	struct scratch *s;
	u32 zero = 0, n, size, i;
	u64 left;
	long failed;

	s = sn_scratch.lookup(&zero);
	chunk = sn_chunk.lookup(&zero);
	if (!s || !chunk)
		return 0;
	args = &chunk->args;
	s->arg_pos = s->arg_rest;
	if (s->arg_pos < s->arg_end) {
		args->header.kind = SENSOR_KIND_ARGS;
		args->header.version = SENSOR_ABI_VERSION;
		args->header.cpu = bpf_get_smp_processor_id();
		args->header.flags = 0;
		args->header.exec_ns = s->exec.header.exec_ns;
		for (i = 0; i < SENSOR_CHUNKS_MAX; i++) {
			left = s->arg_end - s->arg_pos;
			if (!left)
				break;
			s->exec.header.flags |= SENSOR_F_ARGS_CHUNKED;
			n = left > SENSOR_CHUNK_LEN ? SENSOR_CHUNK_LEN : left;
			asm volatile("" : "+r"(n));
			if (n > SENSOR_CHUNK_LEN)
				break;
			if (bpf_probe_read_user(args->data, n, (void *)s->arg_pos)) {
				s->exec.header.flags |= SENSOR_F_ARGS_READ_ERROR;
				break;
			}
			s->arg_pos += n;
			args->index = i;
			args->length = n;
			args->header.size = sizeof(*args) - SENSOR_CHUNK_LEN + n;
			size = sizeof(*args) - SENSOR_CHUNK_LEN + n;
			if (s->could_match)
				failed = sn_events.ringbuf_output(args, size, 0);
			else
				failed = sn_others.ringbuf_output(args, size, 0);
			if (failed)
				count(SENSOR_STAT_ARGS_LOST);
		}
	}
	sn_calls.call((void *)ctx, CALL_EMIT_EXEC);
	count(SENSOR_STAT_CALL_FAILED);
	return 0;
}

/* Everything about the process itself. cgroups come first: they must not be pushed out. */
static __always_inline void tell_process(struct scratch *s)
{
	u64 task, signal, cred, root, inode;
	struct sensor_exec *e = &s->exec;

	task = s->task;
	signal = read_u64(task + OFF_TASK_SIGNAL);
	cred = read_u64(task + OFF_TASK_CRED);
	root = read_u64(task + OFF_TASK_FS) + OFF_FS_ROOT;

	append_cgroups(s, task);

	e->start_ns = read_u64(task + OFF_TASK_START_TIME);
	e->tid = (u32)bpf_get_current_pid_tgid();
	e->ruid = read_u32(cred + OFF_CRED_UID);
	e->rgid = read_u32(cred + OFF_CRED_GID);
	e->euid = read_u32(cred + OFF_CRED_EUID);
	e->egid = read_u32(cred + OFF_CRED_EGID);
	e->suid = read_u32(cred + OFF_CRED_SUID);
	e->sgid = read_u32(cred + OFF_CRED_SGID);
	e->sid = pid_number(signal, PIDTYPE_SID);
	e->pgid = pid_number(signal, PIDTYPE_PGID);
	e->header.flags |= read_tty(signal, &e->tty_major, &e->tty_minor);
	read_namespaces(task, &e->pid_ns, &e->mnt_ns);
	bpf_get_current_comm(&e->comm, sizeof(e->comm));

	if (s->exe_file) {
		inode = read_u64(s->exe_file + OFF_FILE_F_INODE);
		if (!read_u32(inode + OFF_INODE_I_NLINK))
			e->header.flags |= SENSOR_F_EXE_UNLINKED;
		if (!s->exe_told)
			s->exe_flags = append_path(s, s->exe_file + OFF_FILE_F_PATH, root, &e->exe);
		e->header.flags |= s->exe_flags;
	} else {
		e->exe.offset = 0;
		e->exe.length = 0;
		e->header.flags |= SENSOR_F_EXE_UNREADABLE;
	}
	e->header.flags |=
		append_path(s, read_u64(task + OFF_TASK_FS) + OFF_FS_PWD, root, &e->cwd) &
		SENSOR_F_PATH_TRUNCATED;
}

int emit_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct scratch *s;
	u32 zero = 0;

	s = sn_scratch.lookup(&zero);
	if (!s)
		return 0;
	tell_process(s);
	sn_calls.call((void *)ctx, CALL_EMIT_PROCESSES);
	count(SENSOR_STAT_CALL_FAILED);
	return 0;
}

/* The ancestors and the leaders of session and group. The record is whole then: returns its size.
 */
static __always_inline u32 tell_processes(struct scratch *s, const u32 kind)
{
	u64 self, task, next, signal, cred, mm, file, session_leader, group_leader;
	u32 used, tgid, role, size, i;
	struct sensor_process *p;
	struct sensor_proc *proc;

	self = s->task;
	signal = read_u64(self + OFF_TASK_SIGNAL);
	session_leader = pid_leader(signal, PIDTYPE_SID);
	group_leader = pid_leader(signal, PIDTYPE_PGID);
	task = self;
	/* told and top live in the map, where the verifier does not follow their values */
	s->told = 0;
	s->top = 0;
	s->used = (s->used + 7) & ~7;
	s->exec.processes.offset = s->used;

	for (i = 0; i < SENSOR_PROCESSES; i++) {
		if (i < SENSOR_ANCESTORS) {
			if (s->top)
				continue;
			/* real_parent may be a thread: the process is its leader */
			next = read_u64(task + OFF_TASK_REAL_PARENT);
			next = read_u64(next + OFF_TASK_GROUP_LEADER);
			if (next == task || !read_u32(next + OFF_TASK_TGID)) {
				s->top = 1;
				continue;
			}
			task = next;
			role = SENSOR_ROLE_ANCESTOR;
			if (task == session_leader)
				role |= SENSOR_ROLE_SESSION_LEADER;
			if (task == group_leader)
				role |= SENSOR_ROLE_GROUP_LEADER;
		} else if (i == SENSOR_ANCESTORS) {
			task = session_leader;
			role = SENSOR_ROLE_SESSION_LEADER;
			if (task == group_leader)
				role |= SENSOR_ROLE_GROUP_LEADER;
		} else {
			task = group_leader;
			role = SENSOR_ROLE_GROUP_LEADER;
		}
		if (!task || task == self)
			continue;
		if (i >= SENSOR_ANCESTORS && (s->told & role) == role)
			continue;
		s->told |= role & ~SENSOR_ROLE_ANCESTOR;

		used = s->used;
		if (used >= TAIL_LEN) {
			s->exec.header.flags |= SENSOR_F_TAIL_FULL;
			break;
		}
		p = (struct sensor_process *)&s->tail[used & (TAIL_LEN - 1)];
		s->used = used + sizeof(*p);
		tgid = read_u32(task + OFF_TASK_TGID);
		signal = read_u64(task + OFF_TASK_SIGNAL);
		cred = read_u64(task + OFF_TASK_CRED);
		p->start_ns = read_u64(task + OFF_TASK_START_TIME);
		p->cgroup_id = read_u64(read_u64(read_u64(read_u64(task + OFF_TASK_CGROUPS) +
							  OFF_CSS_SET_DFL_CGRP) +
						 OFF_CGROUP_KN) +
					OFF_KERNFS_NODE_ID);
		p->role = role;
		p->tgid = tgid;
		p->sid = pid_number(signal, PIDTYPE_SID);
		p->pgid = pid_number(signal, PIDTYPE_PGID);
		p->euid = read_u32(cred + OFF_CRED_EUID);
		p->egid = read_u32(cred + OFF_CRED_EGID);
		p->flags = read_tty(signal, &p->tty_major, &p->tty_minor);
		read_namespaces(task, &p->pid_ns, &p->mnt_ns);
		p->reserved = 0;
		bpf_probe_read_kernel_str(p->comm, sizeof(p->comm), (void *)(task + OFF_TASK_COMM));
		proc = proc_of(tgid);
		/* an argv that could not be read is not known, which is not the same as empty */
		if (proc &&
		    (proc->image.text_len > proc->image.filename_len || !proc->image.args_total)) {
			p->flags |= SENSOR_F_IN_TABLE;
			bpf_probe_read_kernel(&p->image, sizeof(p->image), &proc->image);
		} else {
			__builtin_memset(&p->image, 0, sizeof(p->image));
		}
		p->exe.offset = s->used;
		p->exe.length = 0;
		mm = read_u64(task + OFF_TASK_MM);
		file = mm ? read_u64(mm + OFF_MM_EXE_FILE) : 0;
		if (!file)
			p->flags |= SENSOR_F_EXE_UNREADABLE; /* a kernel thread */
		else
			p->flags |=
				append_path(s, file + OFF_FILE_F_PATH,
					    read_u64(task + OFF_TASK_FS) + OFF_FS_ROOT, &p->exe);
		s->used = (s->used + 7) & ~7;
	}

	used = s->used;
	if (used > TAIL_LEN + TAIL_SLACK)
		used = TAIL_LEN + TAIL_SLACK;
	s->exec.processes.length = used - s->exec.processes.offset;
	size = sizeof(s->exec) + used;
	s->exec.header.kind = kind;
	s->exec.header.version = SENSOR_ABI_VERSION;
	s->exec.header.cpu = bpf_get_smp_processor_id();
	s->exec.header.size = size;
	return size;
}

int emit_processes(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0, size;
	struct scratch *s;

	s = sn_scratch.lookup(&zero);
	if (!s)
		return 0;
	size = tell_processes(s, SENSOR_KIND_EXEC);
	if (s->could_match)
		count(sn_events.ringbuf_output(&s->exec, size, 0) ? SENSOR_STAT_RING_FULL
								  : SENSOR_STAT_SENT);
	else
		count(sn_others.ringbuf_output(&s->exec, size, 0) ? SENSOR_STAT_SHED
								  : SENSOR_STAT_SENT);
	return 0;
}

/*
 * Hook: sched_process_fork, or task_newtask by perf, in the parent. The child starts as a copy of
 * its parent: its argv and path are the parent's until it does an exec. New threads are not
 * processes. Arguments: parent, child.
 */
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u32 tgid = CHILD_PID(ctx);
	struct sensor_proc *parent, *proc;

	if (IS_THREAD(ctx))
		return 0;
	parent = proc_of(member_u32(TASK(ctx), OFF_TASK_TGID));
	if (!parent) {
		/* nothing is better than what an earlier owner of the number left */
		proc = proc_of(tgid);
		if (proc)
			proc->tgid = 0;
		return 0;
	}
	proc = new_place(tgid);
	if (proc) {
		proc->image.args_total = parent->image.args_total;
		proc->image.filename_len = parent->image.filename_len;
		set_image(&proc->image, parent->image.text, parent->image.text_len);
		if (is_placed(proc, tgid))
			return 0;
	}
	count(SENSOR_STAT_PROCS_FULL);
	return 0;
}

/*
 * Hook: sched_process_exit, of each thread. The process is gone when no thread is left: live has
 * been counted down before this point. Argument: task.
 */
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = TASK(ctx);
	struct sensor_proc *proc;

	if (member_u32(member(task, OFF_TASK_SIGNAL), OFF_SIGNAL_LIVE))
		return 0;
	proc = proc_of(member_u32(task, OFF_TASK_TGID));
	if (proc)
		proc->tgid = 0;
	return 0;
}
