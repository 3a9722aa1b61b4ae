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
 * off in a raw tracepoint and a refusal does not happen; 7.2 was seen to preempt there, and then
 * refuses an exec, fork or exit now and then. The sensor counts them and says so.
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

/* Bytes searched between two looks at the bounds: fewer branches for the verifier to follow. */
#define STRIDE 8

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
	u32 bank;	 /* of the filter: the same for the whole exec */
	u32 mode;	 /* enum sensor_mode */
	u32 could_match; /* a rule: which ring it goes to */
	u32 used;	 /* bytes of the tail */
	u32 told;	 /* roles of the processes told so far */
	u32 top;	 /* no ancestor is left */
	u32 pad0;
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
BPF_F_TABLE("hash", u32, struct sensor_proc, sn_procs, PROCS_MAX, PROCS_FLAGS);
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

static __always_inline void read_namespaces(u64 task, u32 *pid_ns, u32 *mnt_ns)
{
	u64 nsproxy = read_u64(task + OFF_TASK_NSPROXY), pid = read_u64(task + OFF_TASK_THREAD_PID);
	u64 innermost = pid + OFF_PID_NUMBERS + read_u32(pid + OFF_PID_LEVEL) * SIZE_UPID;

	*mnt_ns = read_u32(read_u64(nsproxy + OFF_NSPROXY_MNT_NS) + OFF_MNT_NAMESPACE_INUM);
	*pid_ns = read_u32(read_u64(innermost + OFF_UPID_NS) + OFF_PID_NAMESPACE_INUM);
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
 * Runs n bytes of text through the automaton, rounded up to whole strides: whoever fills the text
 * pads it with NULs. limit is a constant that the verifier can count to, mask keeps an index inside
 * the text. One branch a stride, and none for a hit, which absorbs: the verifier follows each
 * branch of each round, and gives up at 8192.
 */
#define SEARCH(bank, state, text, mask, n, limit)                                                  \
	do {                                                                                       \
		u32 at, byte;                                                                      \
                                                                                                   \
		for (at = 0; at < (limit); at += STRIDE) {                                         \
			/* keeps the compiler from dropping the masks, which the verifier needs */ \
			asm volatile("" : "+r"(at));                                               \
			if (at >= (n))                                                             \
				break;                                                             \
			_Pragma("unroll") for (byte = 0; byte < STRIDE; byte++) state =            \
				next_state(bank, state, (text)[(at + byte) & (mask)]);             \
		}                                                                                  \
	} while (0)

/*
 * Keeps the exec among the last ones of its cgroup, in the place that is the cgroup's own or, of a
 * few, the stalest. Two CPUs may write for one cgroup at once: then one exec is missing from the
 * history, which is no more than that.
 */
static __always_inline void record_recent(struct scratch *s, u64 task, u32 args, u32 length)
{
	u64 id = bpf_get_current_cgroup_id(), stalest = ~0ULL;
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
	recent->ppid = read_u32(read_u64(task + OFF_TASK_REAL_PARENT) + OFF_TASK_TGID);
	recent->euid = bpf_get_current_uid_gid();
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
	u64 task = ctx->args[0], range[2] = {}, mm, file, name, length;
	u32 zero = 0, tgid = bpf_get_current_pid_tgid() >> 32, used, n, head;
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
	mm = read_u64(task + OFF_TASK_MM);
	bpf_probe_read_kernel(range, sizeof(range), (void *)(mm + OFF_MM_ARG_START));
	file = read_u64(mm + OFF_MM_EXE_FILE);
	length = range[1] > range[0] ? range[1] - range[0] : 0;

	s->task = task;
	s->exe_file = file;
	s->bank = config->bank;
	s->mode = config->mode;
	s->exec.header.flags = 0;
	s->exec.header.exec_ns = bpf_ktime_get_boot_ns();
	s->exec.tgid = tgid;
	s->exec.old_tid = ctx->args[1];
	s->exec.args_total = length;
	if (length > SENSOR_ARGS_MAX) {
		s->exec.header.flags |= SENSOR_F_ARGS_TRUNCATED;
		length = SENSOR_ARGS_MAX;
		count(SENSOR_STAT_TRUNCATED);
	}

	/*
	 * The text to search: NUL, path as given, NUL, name of the file it resolved to, NUL, argv.
	 * A NUL stands at both ends of each, so that a literal can ask for a whole name or
	 * argument; the filter reads '/' as NUL, so one stands before a basename, too.
	 */
	s->tail[0] = 0;
	s->used = 1;
	s->exec.filename.offset = 1;
	s->exec.filename.length =
		append_string(s, read_u64(ctx->args[2] + OFF_BPRM_FILENAME), PATH_LEN);
	if (s->exec.filename.length <= 1) /* then comm is its name, which is not searched */
		s->exec.header.flags |= SENSOR_F_MATCHED;
	name = read_u64(read_u64(file + OFF_FILE_F_PATH + OFF_PATH_DENTRY) + OFF_DENTRY_D_NAME);
	append_string(s, name, NAME_LEN);
	used = s->used;

	/* where more follows, the text ends on a whole stride: padding would stand between */
	n = length;
	if (length > SENSOR_INLINE_LEN)
		n = SENSOR_INLINE_LEN - ((used + SENSOR_INLINE_LEN) & (STRIDE - 1));
	s->arg_pos = range[0] + n;
	s->arg_end = range[0] + length;
	if (bpf_probe_read_user(&s->tail[used & (TAIL_LEN - 1)], n & (TAIL_SLACK - 1),
				(void *)range[0])) {
		s->exec.header.flags |= SENSOR_F_ARGS_READ_ERROR;
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
	proc = sn_procs.lookup(&tgid);
	if (!proc) {
		sn_procs.update(&tgid, (struct sensor_proc *)s->tail);
		proc = sn_procs.lookup(&tgid);
	}
	if (proc) {
		head = n > SENSOR_HEAD_LEN ? SENSOR_HEAD_LEN : n;
		proc->args_total = s->exec.args_total;
		proc->args_len = head;
		bpf_probe_read_kernel_str(proc->filename, sizeof(proc->filename), &s->tail[1]);
		bpf_probe_read_kernel(proc->args_head, SENSOR_HEAD_LEN,
				      &s->tail[used & (TAIL_LEN - 1)]);
	} else {
		count(SENSOR_STAT_PROCS_FULL);
	}

	record_recent(s, task, used, n);

	if (!config->filter)
		s->exec.header.flags |= SENSOR_F_MATCHED;
	/* what cannot be searched whole always passes */
	if (s->exec.header.flags)
		sn_calls.call((void *)ctx, CALL_EMIT_ARGS);
	else
		sn_calls.call((void *)ctx, CALL_SCAN);
	count(SENSOR_STAT_CALL_FAILED);
	return 0;
}

/* Searches the names and the first bytes of argv, as they lie in the tail. */
int scan(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0, state = SENSOR_STATE_START, key, n;
	struct sensor_bank *bank;
	struct scratch *s;

	s = sn_scratch.lookup(&zero);
	if (!s)
		return 0;
	key = s->bank & (SENSOR_BANKS - 1);
	bank = sn_banks.lookup(&key);
	if (!bank)
		return 0;
	n = s->used;
	SEARCH(bank, state, s->tail, TAIL_LEN - 1, n, 1 + PATH_LEN + NAME_LEN + SENSOR_INLINE_LEN);
	s->state = state;
	if (state == SENSOR_STATE_HIT) {
		s->exec.header.flags |= SENSOR_F_MATCHED;
		sn_calls.call((void *)ctx, CALL_EMIT_ARGS);
	} else if (s->arg_pos < s->arg_end) {
		sn_calls.call((void *)ctx, CALL_SCAN_CHUNK);
	} else if (s->mode == SENSOR_MODE_ALL) {
		sn_calls.call((void *)ctx, CALL_EMIT_ARGS);
	} else {
		count(SENSOR_STAT_FILTERED);
		return 0;
	}
	count(SENSOR_STAT_CALL_FAILED);
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
	key = s->bank & (SENSOR_BANKS - 1);
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
		count(SENSOR_STAT_ARGS_ERROR);
		sn_calls.call((void *)ctx, CALL_EMIT_ARGS);
		count(SENSOR_STAT_CALL_FAILED);
		return 0;
	}
	*(u64 *)&chunk->args.data[n] = 0; /* the padding of the last stride */
	state = s->state;
	SEARCH(bank, state, chunk->args.data, SENSOR_CHUNK_LEN - 1, n, SENSOR_CHUNK_LEN);
	s->state = state;
	s->arg_pos += n;
	if (state == SENSOR_STATE_HIT) {
		s->exec.header.flags |= SENSOR_F_MATCHED;
		sn_calls.call((void *)ctx, CALL_EMIT_ARGS);
	} else if (s->arg_pos < s->arg_end) {
		sn_calls.call((void *)ctx, CALL_SCAN_CHUNK);
	} else if (s->mode == SENSOR_MODE_ALL) {
		sn_calls.call((void *)ctx, CALL_EMIT_ARGS);
	} else {
		count(SENSOR_STAT_FILTERED);
		return 0;
	}
	count(SENSOR_STAT_CALL_FAILED);
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
	s->could_match = s->exec.header.flags != 0;
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
int emit_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task, signal, cred, root, parent, inode;
	u32 zero = 0;
	struct sensor_exec *e;
	struct scratch *s;

	s = sn_scratch.lookup(&zero);
	if (!s)
		return 0;
	e = &s->exec;
	task = s->task;
	signal = read_u64(task + OFF_TASK_SIGNAL);
	cred = read_u64(task + OFF_TASK_CRED);
	root = read_u64(task + OFF_TASK_FS) + OFF_FS_ROOT;
	parent = read_u64(task + OFF_TASK_REAL_PARENT);

	append_cgroups(s, task);

	e->start_ns = read_u64(task + OFF_TASK_START_TIME);
	e->tid = (u32)bpf_get_current_pid_tgid();
	e->ppid = read_u32(parent + OFF_TASK_TGID);
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
		e->header.flags |= append_path(s, s->exe_file + OFF_FILE_F_PATH, root, &e->exe);
	} else {
		e->exe.offset = 0;
		e->exe.length = 0;
		e->header.flags |= SENSOR_F_EXE_UNREADABLE;
	}
	e->header.flags |=
		append_path(s, read_u64(task + OFF_TASK_FS) + OFF_FS_PWD, root, &e->cwd) &
		SENSOR_F_PATH_TRUNCATED;
	sn_calls.call((void *)ctx, CALL_EMIT_PROCESSES);
	count(SENSOR_STAT_CALL_FAILED);
	return 0;
}

/* The ancestors and the leaders of session and group, then the record goes out. */
int emit_processes(struct bpf_raw_tracepoint_args *ctx)
{
	u64 self, task, next, signal, cred, mm, file, session_leader, group_leader;
	u32 zero = 0, used, tgid, role, size, i;
	struct sensor_process *p;
	struct sensor_proc *proc;
	struct scratch *s;

	s = sn_scratch.lookup(&zero);
	if (!s)
		return 0;
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
		p->args_total = 0;
		bpf_probe_read_kernel_str(p->comm, sizeof(p->comm), (void *)(task + OFF_TASK_COMM));
		proc = sn_procs.lookup(&tgid);
		/* an argv that could not be read is not known, which is not the same as empty */
		if (proc && (proc->args_len || !proc->args_total)) {
			p->flags |= SENSOR_F_IN_TABLE;
			p->args_total = proc->args_total;
			bpf_probe_read_kernel(p->filename, sizeof(p->filename), proc->filename);
			bpf_probe_read_kernel(p->args_head, sizeof(p->args_head), proc->args_head);
		} else {
			__builtin_memset(p->filename, 0, sizeof(p->filename));
			__builtin_memset(p->args_head, 0, sizeof(p->args_head));
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
	s->exec.header.kind = SENSOR_KIND_EXEC;
	s->exec.header.version = SENSOR_ABI_VERSION;
	s->exec.header.cpu = bpf_get_smp_processor_id();
	s->exec.header.size = size;
	if (s->could_match)
		count(sn_events.ringbuf_output(&s->exec, size, 0) ? SENSOR_STAT_RING_FULL
								  : SENSOR_STAT_SENT);
	else
		count(sn_others.ringbuf_output(&s->exec, size, 0) ? SENSOR_STAT_SHED
								  : SENSOR_STAT_SENT);
	return 0;
}

/*
 * Hook: sched_process_fork, in the parent. The child starts as a copy of its parent: its argv and
 * path are the parent's until it does an exec. New threads are not processes. Arguments: parent,
 * child.
 */
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u64 child = ctx->args[1];
	u32 parent_tgid = bpf_get_current_pid_tgid() >> 32;
	u32 tid = read_u32(child + OFF_TASK_PID), tgid = read_u32(child + OFF_TASK_TGID);
	struct sensor_proc *proc;

	if (tid != tgid)
		return 0;
	proc = sn_procs.lookup(&parent_tgid);
	if (proc && sn_procs.update(&tgid, proc) == 0)
		return 0;
	if (proc)
		count(SENSOR_STAT_PROCS_FULL);
	sn_procs.delete(
		&tgid); /* nothing is better than what an earlier owner of the number left */
	return 0;
}

/*
 * Hook: sched_process_exit, of each thread. The process is gone when no thread is left: live has
 * been counted down before this point. Argument: task.
 */
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u64 signal = read_u64(ctx->args[0] + OFF_TASK_SIGNAL);
	u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (read_u32(signal + OFF_SIGNAL_LIVE) == 0)
		sn_procs.delete(&tgid);
	return 0;
}
