// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Execs that failed. Only where they are asked for, the loader appends this to sensor.bpf.c, for
 * BCC takes one file; without it none of this is in the kernel.
 *
 * Hooks: the return (fexit) of the system calls execve and execveat, a chain of programs for each:
 *
 *	on_failed -> failed_scan -> failed_tell -> failed_send
 *
 * Nothing runs for other system calls, and an exec that succeeded runs the first line of the first
 * program. Where the kernel attaches nothing to a function's return, AT_SYS_EXIT, the first program
 * stands at the end of all system calls, and leaves those that are no failed execs alone. Either
 * way the arguments are those of x86-64's and arm64's own calls: 32-bit programs are not told of.
 *
 * The kernel does not enter a program that is running on the same CPU, so each chain's scratch
 * belongs to one exec at a time, and to no other program. What is refused is lost, and the kernel
 * counts it.
 *
 * argv is read from the caller's memory, where it lies when the call has failed. Another thread may
 * have changed it since the kernel read it, and a page that the kernel had no need of may not be
 * there: then argv is told as not readable.
 */

/* Indexes into the tables of programs, as in sensor/kernel/failed.py. */
#define FAILED_SCAN 0
#define FAILED_TELL 1
#define FAILED_SEND 2

/* Which call: also the key of its scratch. */
#define OF_EXECVE   0
#define OF_EXECVEAT 1

#define AT_FDCWD_ -100

/* The longest text to search: NUL, path, argv, in whole strides. */
#define TEXT_MAX (PATH_LEN + SENSOR_FAILED_ARGS_LEN + STRIDE)

/* From here on an error means that the call is made again, once a signal was handled. */
#define ERESTARTSYS_ 512

struct failed {
	u64 word;	/* the filter's, the same for the whole exec */
	u32 unsearched; /* not all of the text is there: it passes */
	u32 text;	/* bytes of the tail that are searched */
	struct scratch scratch;
};

/* A ring of their own: they never take the room of execs that succeeded. */
BPF_RINGBUF_OUTPUT(sn_failed, FAILED_PAGES);
BPF_PERCPU_ARRAY(sn_failed_scratch, struct failed, 2);
BPF_PROG_ARRAY(sn_failed_calls, 4);
BPF_PROG_ARRAY(sn_failed_at_calls, 4);

/* Atomic, for the program may be preempted by its neighbour. */
static __always_inline void count_failed(u32 stat)
{
	u32 key = bpf_get_smp_processor_id() * SENSOR_STAT_COUNT + stat;
	u64 *value = sn_stats.lookup(&key);

	if (value)
		__sync_fetch_and_add(value, 1);
}

static __always_inline void call_failed(void *ctx, const u32 of, const u32 index)
{
	if (of == OF_EXECVE)
		sn_failed_calls.call(ctx, index);
	else
		sn_failed_at_calls.call(ctx, index);
	count_failed(SENSOR_STAT_FAILED_LOST);
}

/* Appends argv's strings to the tail; returns flags that say what is missing. */
static __always_inline u32 append_argv(struct scratch *s, u64 argv)
{
	u64 string, room, begin = s->used;
	u32 used, i;
	long n;

	for (i = 0; i < SENSOR_FAILED_ARGS; i++) {
		if (bpf_probe_read_user(&string, sizeof(string), (void *)(argv + i * 8)))
			return SENSOR_F_ARGS_READ_ERROR;
		if (!string)
			return 0;
		used = s->used;
		room = SENSOR_FAILED_ARGS_LEN - (used - begin);
		asm volatile("" : "+r"(room));
		if (room > SENSOR_FAILED_ARGS_LEN) /* never so; the verifier wants to see it */
			return 0;
		n = bpf_probe_read_user_str(&s->tail[used & (TAIL_LEN - 1)], room, (void *)string);
		if (n <= 0)
			return SENSOR_F_ARGS_READ_ERROR;
		s->used = used + n;
		if (n == room) /* cut here, or it just fits: the helper does not tell */
			return SENSOR_F_ARGS_TRUNCATED;
	}
	return SENSOR_F_ARGS_TRUNCATED;
}

/* Whether a literal is in the text, from a start of the automaton on. */
static __always_inline u32 is_found(struct failed *f, u32 state)
{
	u32 key = f->word & SENSOR_FILTER_BANK, n = f->text;
	struct sensor_bank *bank = sn_banks.lookup(&key);

	if (!bank || f->unsearched)
		return 1;
	SEARCH(bank, state, f->scratch.tail, 0, TAIL_LEN - 1, n, TEXT_MAX);
	return state == SENSOR_STATE_HIT;
}

/* ctx: the call's registers, then what it returned. */
static __always_inline int see_failed(struct bpf_raw_tracepoint_args *ctx, const u32 of)
{
	u64 regs = ctx->args[0], filename, argv, task, mm;
	s64 result = ctx->args[1];
	struct sensor_config *config;
	u32 key = of, zero = 0, flags = 0;
	struct scratch *s;
	struct failed *f;
	long n;

	if (result >= 0 || result <= -ERESTARTSYS_)
		return 0;
	count_failed(SENSOR_STAT_FAILED);
	f = sn_failed_scratch.lookup(&key);
	config = sn_config.lookup(&zero);
	if (!f || !config) {
		count_failed(SENSOR_STAT_FAILED_LOST);
		return 0;
	}
	s = &f->scratch;
	f->word = config->failed;
	s->send = config->mode != SENSOR_MODE_MATCHING;
	s->plan = f->word >> SENSOR_FILTER_PLAN_SHIFT & SENSOR_FILTER_PLAN;
	s->could_match = s->plan != SENSOR_PLAN_DROP;
	if (!s->could_match && !s->send) {
		count_failed(SENSOR_STAT_FAILED_FILTERED);
		return 0;
	}
	if (of == OF_EXECVE) {
		filename = member(regs, OFF_CALL_ARG0);
		argv = member(regs, OFF_CALL_ARG1);
	} else {
		filename = member(regs, OFF_CALL_ARG1);
		argv = member(regs, OFF_CALL_ARG2);
		if (member_u32(regs, OFF_CALL_ARG0) != (u32)AT_FDCWD_)
			flags |= SENSOR_F_AT_FD;
	}
	task = bpf_get_current_task();
	mm = read_u64(task + OFF_TASK_MM);
	s->task = task;
	s->exe_file = read_u64(mm + OFF_MM_EXE_FILE);
	s->exe_told = 0;
	s->exec.header.exec_ns = bpf_ktime_get_boot_ns();
	s->exec.tgid = bpf_get_current_pid_tgid() >> 32;
	s->exec.ppid = read_u32(read_u64(task + OFF_TASK_REAL_PARENT) + OFF_TASK_TGID);
	s->exec.old_tid = (u32)bpf_get_current_pid_tgid();
	s->exec.error = -result;

	/* The text to search: NUL, path as given, NUL, argv, each argument ended by a NUL. */
	s->tail[0] = 0;
	s->used = 1;
	s->exec.filename.offset = 1;
	s->exec.filename.length = 0;
	if (!read_u64(mm + OFF_MM_ENV_END)) {
		/*
		 * It failed when the old program was gone, and the process is about to be killed.
		 * This is the new memory: what the registers point to is not in it.
		 */
		flags |= SENSOR_F_ARGS_READ_ERROR;
		argv = 0;
	} else {
		n = bpf_probe_read_user_str(&s->tail[1], PATH_LEN, (void *)filename);
		if (n > 0) {
			s->exec.filename.length = n;
			s->used = 1 + n;
		}
	}
	s->exec.args.offset = s->used;
	if (argv)
		flags |= append_argv(s, argv);
	s->exec.args.length = s->used - s->exec.args.offset;
	s->exec.args_total = s->exec.args.length;
	s->exec.header.flags = flags;
	f->text = s->used;
	*(u64 *)&s->tail[f->text & (TAIL_LEN - 1)] = 0; /* the padding of the last stride */
	/* what cannot be searched whole always passes; without a path comm is the name */
	f->unsearched = flags & (SENSOR_F_ARGS_READ_ERROR | SENSOR_F_ARGS_TRUNCATED) ||
			s->exec.filename.length <= 1;
	call_failed(ctx, of, s->plan == SENSOR_PLAN_SEARCH ? FAILED_SCAN : FAILED_TELL);
	return 0;
}

static __always_inline int search_failed(struct bpf_raw_tracepoint_args *ctx, const u32 of)
{
	struct failed *f;
	u32 key = of;

	f = sn_failed_scratch.lookup(&key);
	if (!f)
		return 0;
	if (!is_found(f, f->word >> SENSOR_FILTER_STATE & SENSOR_FILTER_STATES)) {
		f->scratch.could_match = 0;
		if (!f->scratch.send) {
			count_failed(SENSOR_STAT_FAILED_FILTERED);
			return 0;
		}
	}
	call_failed(ctx, of, FAILED_TELL);
	return 0;
}

/* Whether this is the host, as in judge_cgroups(), by what the record says by now. */
static __always_inline u32 is_host(struct scratch *s, struct sensor_config *config)
{
	u64 cgroups = s->exec.cgroups[0].id + s->exec.cgroups[1].id * SENSOR_CGROUP_V1, *word;
	u32 place = cgroups & (SENSOR_CGROUPS - 1);

	if (!config->knows_host || s->exec.ppid == config->sensor_tgid)
		return 0;
	word = sn_cgroups.lookup(&place);
	return word && *word == (cgroups << 1 | SENSOR_CGROUP_HOST);
}

/* Where it happened, and whether rules want such a one there; then what the process still runs. */
static __always_inline int tell_failed(struct bpf_raw_tracepoint_args *ctx, const u32 of)
{
	struct sensor_config *config;
	u32 key = of, zero = 0, used;
	struct sensor_proc *proc;
	struct scratch *s;
	struct failed *f;

	f = sn_failed_scratch.lookup(&key);
	config = sn_config.lookup(&zero);
	if (!f || !config)
		return 0;
	s = &f->scratch;
	tell_process(s);
	if (is_host(s, config)) {
		s->plan = f->word >> SENSOR_FILTER_HOST_SHIFT & SENSOR_FILTER_PLAN;
		if (s->plan == SENSOR_PLAN_DROP)
			s->could_match = 0;
		else if (s->plan == SENSOR_PLAN_SEARCH && s->could_match)
			s->could_match = is_found(f, f->word >> SENSOR_FILTER_HOST_STATE &
							     SENSOR_FILTER_STATES);
		if (config->mode == SENSOR_MODE_CONTAINERS && config->pid_ns &&
		    s->exec.pid_ns == config->pid_ns && config->mnt_ns &&
		    s->exec.mnt_ns == config->mnt_ns)
			s->send = 0;
	}
	if (!s->could_match && !s->send) {
		count_failed(SENSOR_STAT_FAILED_FILTERED);
		return 0;
	}
	s->exec.previous.offset = 0;
	s->exec.previous.length = 0;
	used = (s->used + 7) & ~7;
	proc = proc_of(s->exec.tgid);
	if (proc && used < TAIL_LEN) {
		bpf_probe_read_kernel(&s->tail[used & (TAIL_LEN - 1)], sizeof(proc->image),
				      &proc->image);
		s->exec.previous.offset = used;
		s->exec.previous.length = sizeof(proc->image);
		s->used = used + sizeof(proc->image);
	}
	call_failed(ctx, of, FAILED_SEND);
	return 0;
}

static __always_inline int send_failed(struct bpf_raw_tracepoint_args *ctx, const u32 of)
{
	struct failed *f;
	u32 key = of, size;

	f = sn_failed_scratch.lookup(&key);
	if (!f)
		return 0;
	size = tell_processes(&f->scratch, SENSOR_KIND_FAILED);
	if (!sn_failed.ringbuf_output(&f->scratch.exec, size, 0))
		count_failed(SENSOR_STAT_FAILED_SENT);
	else
		count_failed(f->scratch.could_match ? SENSOR_STAT_FAILED_LOST
						    : SENSOR_STAT_FAILED_SHED);
	return 0;
}

#ifdef AT_SYS_EXIT
/* Whether a 32-bit program made the call, for which the number means another one. */
static __always_inline u32 is_compat(u64 regs)
{
#ifdef COMPAT_OF_TASK
	return read_u32(bpf_get_current_task() + OFF_COMPAT) & COMPAT_BIT;
#else
	return member_u32(regs, OFF_COMPAT) & COMPAT_BIT;
#endif
}

/* Hook: sys_exit, as every system call ends. Arguments: its registers, then what it returned. */
int on_failed(struct bpf_raw_tracepoint_args *ctx)
{
	u64 regs = ctx->args[0];
	u32 number;

	if ((s64)ctx->args[1] >= 0)
		return 0;
	number = member_u32(regs, OFF_CALL_NUMBER);
	if ((number != NUMBER_EXECVE && number != NUMBER_EXECVEAT) || is_compat(regs))
		return 0;
	return number == NUMBER_EXECVE ? see_failed(ctx, OF_EXECVE) : see_failed(ctx, OF_EXECVEAT);
}
#else
int on_failed(struct bpf_raw_tracepoint_args *ctx)
{
	return see_failed(ctx, OF_EXECVE);
}

int on_failed_at(struct bpf_raw_tracepoint_args *ctx)
{
	return see_failed(ctx, OF_EXECVEAT);
}
#endif

int failed_scan(struct bpf_raw_tracepoint_args *ctx)
{
	return search_failed(ctx, OF_EXECVE);
}

int failed_tell(struct bpf_raw_tracepoint_args *ctx)
{
	return tell_failed(ctx, OF_EXECVE);
}

int failed_send(struct bpf_raw_tracepoint_args *ctx)
{
	return send_failed(ctx, OF_EXECVE);
}

int failed_at_scan(struct bpf_raw_tracepoint_args *ctx)
{
	return search_failed(ctx, OF_EXECVEAT);
}

int failed_at_tell(struct bpf_raw_tracepoint_args *ctx)
{
	return tell_failed(ctx, OF_EXECVEAT);
}

int failed_at_send(struct bpf_raw_tracepoint_args *ctx)
{
	return send_failed(ctx, OF_EXECVEAT);
}
