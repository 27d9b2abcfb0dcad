// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Dies in the way it is told to:
 *
 *     echo null >/sys/module/labcrash/parameters/die          in the process that writes
 *     echo work:null >/sys/module/labcrash/parameters/die     in another context, see lab_contexts
 *
 * What can't be had from outside of the kernel only; the lab's crashes.py has the rest. Every function that is to be
 * seen in a trace is noinline and does something after its call, or the compiler would leave its frame out.
 */
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/kfence.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#define PATIENCE 120 /* seconds; by then whoever was to die has */

static int lab_zero;
static int lab_one = 1;
static int lab_sum;
static const char lab_constant[] = "nobody may write here";
static unsigned char lab_data[16] = { 0xc3 };
static char lab_small[8];
static char lab_large[64];
static DEFINE_SPINLOCK(lab_lock);
static DEFINE_MUTEX(lab_mutex);

struct lab_thing {
	char before[0x18];
	int member;
	struct list_head list;
};

/* A value that the compiler knows nothing of. */
#define hidden(value) ({ typeof(value) one = (value); OPTIMIZER_HIDE_VAR(one); one; })

static noinline void lab_write(char *to)
{
	WRITE_ONCE(*to, 'x');
	barrier();
}

static noinline void lab_spin(void)
{
	while (READ_ONCE(lab_one))
		cpu_relax();
}

static noinline void lab_bug(void)
{
	BUG();
}

static noinline void lab_bug_on(void)
{
	BUG_ON(READ_ONCE(lab_one) == 1);
	lab_sum++;
}

static noinline int lab_read(const int *from)
{
	return READ_ONCE(*from) + READ_ONCE(lab_zero);
}

static noinline void lab_null(void)
{
	struct lab_thing *thing = hidden((struct lab_thing *)NULL);

	lab_sum += lab_read(&thing->member);
}

static noinline void lab_call(void)
{
	void (*function)(void) = hidden((void (*)(void))NULL);

	function();
	barrier();
}

static noinline void lab_fault(void)
{
	int *gone = hidden((int *)vmalloc(PAGE_SIZE));

	vfree(gone);
	lab_sum += lab_read(gone);
}

static noinline void lab_readonly(void)
{
	lab_write(hidden((char *)lab_constant));
	barrier();
}

static noinline void lab_nx(void)
{
	void (*function)(void) = hidden((void (*)(void))lab_data);

	function();
	barrier();
}

static noinline void lab_user(void)
{
	lab_sum += lab_read((int *)current->mm->start_stack);
}

static noinline void lab_divide(void)
{
	lab_sum = 100 / READ_ONCE(lab_zero);
}

static noinline void lab_protection(void)
{
	lab_sum += lab_read(hidden((int *)0xdead4ead00000000UL));
}

static noinline void lab_opcode(void)
{
	asm volatile(".byte 0x0f, 0xff, 0xc0"); /* ud0 */
}

static noinline int lab_recurse(int depth)
{
	volatile char frame[200];

	frame[depth % sizeof(frame)] = depth;
	return lab_recurse(depth + READ_ONCE(lab_one)) + frame[depth % sizeof(frame)];
}

static noinline void lab_overflow(void)
{
	lab_sum += lab_recurse(1);
}

static noinline void lab_smash(void)
{
	char frame[16];

	memset(hidden((char *)frame), 0xa5, 64);
	barrier();
}

static noinline void lab_softlockup(void)
{
	preempt_disable();
	lab_spin();
	preempt_enable();
}

static noinline void lab_hardlockup(void)
{
	local_irq_disable();
	lab_spin();
	local_irq_enable();
}

static struct rcu_head lab_rcu;

static void lab_after(struct rcu_head *unused)
{
}

/* A reader that never ends, though it lets others run. */
static noinline void lab_stall_task(void)
{
	rcu_read_lock();
	call_rcu(&lab_rcu, lab_after);
	lab_spin();
	rcu_read_unlock();
}

/* Wants another CPU, where the grace period is begun. */
static noinline void lab_stall_cpu(void)
{
	call_rcu(&lab_rcu, lab_after);
	lab_softlockup();
	barrier();
}

/* A thread on the second CPU; the caller is to be on the first. */
static noinline void lab_on_the_other(int (*function)(void *unused), const char *name)
{
	struct task_struct *thread = kthread_create_on_cpu(function, NULL, 1, name);

	if (!IS_ERR(thread))
		wake_up_process(thread);
}

static int lab_holds_lock(void *unused)
{
	spin_lock_irq(&lab_lock); /* so that the watchdog sees the one who waits */
	lab_spin();
	spin_unlock_irq(&lab_lock);
	return 0;
}

static noinline void lab_deadlock(void)
{
	lab_on_the_other(lab_holds_lock, "lab_holder/%u");
	msleep(500);
	spin_lock(&lab_lock);
	lab_sum++;
	spin_unlock(&lab_lock);
}

static noinline void lab_hang(void)
{
	set_current_state(TASK_UNINTERRUPTIBLE);
	schedule();
	barrier();
}

static int lab_holds_mutex(void *unused)
{
	mutex_lock(&lab_mutex);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(HZ);
	mutex_unlock(&lab_mutex);
	return 0;
}

static noinline void lab_wait(void)
{
	kthread_run(lab_holds_mutex, NULL, "lab_holder");
	msleep(500);
	mutex_lock(&lab_mutex);
	lab_sum++;
	mutex_unlock(&lab_mutex);
}

static noinline void lab_list(void)
{
	struct lab_thing *thing = kzalloc(sizeof(*thing), GFP_KERNEL);
	LIST_HEAD(head);

	list_add(&thing->list, &head);
	list_del(&thing->list);
	list_del(&thing->list);
	kfree(thing);
}

static noinline void lab_refcount(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_inc(&count);
	lab_sum += refcount_read(&count);
}

static noinline void lab_double_free(void)
{
	void *thing = kmalloc(64, GFP_KERNEL);
	void *same = hidden(thing);

	kfree(thing);
	kfree(same);
	barrier();
}

/* Wants kfence.sample_interval=1. */
static noinline void lab_freed(void)
{
	unsigned long end = jiffies + PATIENCE * HZ;
	int *thing;

	while (time_before(jiffies, end)) {
		thing = hidden((int *)kmalloc(64, GFP_KERNEL));
		kfree(thing);
		if (is_kfence_address(thing))
			lab_sum += lab_read(thing);
		cond_resched();
	}
}

static noinline void lab_fortify(void)
{
	memcpy(lab_small, lab_large, hidden(sizeof(lab_large)));
	barrier();
}

static noinline void lab_usercopy(void)
{
	char *thing = hidden((char *)kzalloc(64, GFP_KERNEL));

	lab_sum += copy_to_user((void __user *)current->mm->start_stack, thing, hidden(128UL));
	kfree(thing);
}

static noinline void lab_bounds(void)
{
	static int four[4];

	four[hidden(5)] = 1;
	barrier();
}

static noinline void lab_atomic(void)
{
	preempt_disable();
	schedule_timeout_uninterruptible(1);
	preempt_enable();
}

static noinline void lab_warn(void)
{
	WARN(READ_ONCE(lab_one), "labcrash: this can't be: %d\n", 42);
}

static noinline void lab_panic(void)
{
	panic("labcrash: told to give up (%d)", READ_ONCE(lab_one));
}

static int lab_talk(void *unused)
{
	unsigned int line = 0;

	while (!kthread_should_stop()) {
		pr_info("labcrash: nothing to see here, line %u\n", line++);
		udelay(300);
		cond_resched();
	}
	return 0;
}

/* Somebody else's lines among ours. */
static noinline void lab_noise(void)
{
	lab_on_the_other(lab_talk, "lab_noise/%u");
	barrier();
}

struct lab_way {
	const char *name;
	void (*function)(void);
};

static const struct lab_way lab_ways[] = {
	{ "null", lab_null },		{ "call", lab_call },		{ "bug", lab_bug },
	{ "bug_on", lab_bug_on },	{ "fault", lab_fault },		{ "readonly", lab_readonly },
	{ "nx", lab_nx },		{ "user", lab_user },		{ "divide", lab_divide },
	{ "protection", lab_protection }, { "opcode", lab_opcode },	{ "overflow", lab_overflow },
	{ "smash", lab_smash },		{ "softlockup", lab_softlockup }, { "hardlockup", lab_hardlockup },
	{ "stall_task", lab_stall_task }, { "stall_cpu", lab_stall_cpu },
	{ "deadlock", lab_deadlock },	{ "hang", lab_hang },		{ "wait", lab_wait },
	{ "list", lab_list },		{ "refcount", lab_refcount },	{ "double_free", lab_double_free },
	{ "freed", lab_freed },		{ "fortify", lab_fortify },	{ "usercopy", lab_usercopy },
	{ "bounds", lab_bounds },	{ "atomic", lab_atomic },	{ "warn", lab_warn },
	{ "panic", lab_panic },		{ "noise", lab_noise },
};

/* What the context that is chosen below shall do. */
static void (*lab_chosen)(void);

static int lab_thread(void *unused)
{
	lab_chosen();
	return 0;
}

static void lab_work(struct work_struct *work)
{
	lab_chosen();
	barrier();
}
static DECLARE_WORK(lab_work_item, lab_work);

static void lab_timer(struct timer_list *timer)
{
	lab_chosen();
	barrier();
}
static DEFINE_TIMER(lab_timer_item, lab_timer);

static enum hrtimer_restart lab_hrtimer(struct hrtimer *timer)
{
	lab_chosen();
	return HRTIMER_NORESTART;
}
static struct hrtimer lab_hrtimer_item;

static void lab_irq_work(struct irq_work *work)
{
	lab_chosen();
	barrier();
}
static struct irq_work lab_irq_work_item = IRQ_WORK_INIT_HARD(lab_irq_work);

static void lab_ipi(void *unused)
{
	lab_chosen();
	barrier();
}

static void lab_in_thread(void)
{
	kthread_run(lab_thread, NULL, "lab_thread");
}

static void lab_in_work(void)
{
	schedule_work(&lab_work_item);
}

static void lab_in_timer(void)
{
	mod_timer(&lab_timer_item, jiffies + HZ / 2);
}

static void lab_in_hrtimer(void)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
	hrtimer_init(&lab_hrtimer_item, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	lab_hrtimer_item.function = lab_hrtimer;
#else
	hrtimer_setup(&lab_hrtimer_item, lab_hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
#endif
	hrtimer_start(&lab_hrtimer_item, ms_to_ktime(500), HRTIMER_MODE_REL_HARD);
}

static void lab_in_irq(void)
{
	irq_work_queue(&lab_irq_work_item);
}

static void lab_in_ipi(void)
{
	smp_call_function_single(num_online_cpus() - 1 - get_cpu(), lab_ipi, NULL, 0);
	put_cpu();
}

static const struct lab_way lab_contexts[] = {
	{ "thread", lab_in_thread }, { "work", lab_in_work },	{ "timer", lab_in_timer },
	{ "hrtimer", lab_in_hrtimer }, { "irq", lab_in_irq },	{ "ipi", lab_in_ipi },
};

static void (*lab_find(const struct lab_way *ways, size_t count, const char *name, size_t length))(void)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (strlen(ways[i].name) == length && !strncmp(ways[i].name, name, length))
			return ways[i].function;
	return NULL;
}

static int lab_die(const char *value, const struct kernel_param *param)
{
	size_t length = strcspn(value, ":\n");
	void (*context)(void) = NULL;

	if (value[length] == ':') {
		context = lab_find(lab_contexts, ARRAY_SIZE(lab_contexts), value, length);
		if (!context)
			return -EINVAL;
		value += length + 1;
	}
	lab_chosen = lab_find(lab_ways, ARRAY_SIZE(lab_ways), value, strcspn(value, "\n"));
	if (!lab_chosen)
		return -EINVAL;
	if (!context) {
		lab_chosen();
		return 0;
	}
	context();
	ssleep(PATIENCE);
	return 0;
}

static const struct kernel_param_ops lab_ops = { .set = lab_die };
module_param_cb(die, &lab_ops, NULL, 0200);

static int __init lab_init(void)
{
	return 0;
}

static void __exit lab_exit(void)
{
}

module_init(lab_init);
module_exit(lab_exit);
MODULE_DESCRIPTION("Crashes on demand");
MODULE_LICENSE("GPL");
