"""Types of global variables that crash and drgn ask for: BTF has them only of those that are per CPU.

A line is a declaration in C. `[]` stands for as many as the symbol has room for, `[*]` for an open array, a word in
brackets for the value of that enumerator. A variable that a kernel doesn't have, or whose type it doesn't have or has
of another size, is left out, so lines for older and newer kernels stand side by side. A name may come twice: the first
line that fits counts. What changed its type and kept its size can't be told apart, and is not in here.
"""

from __future__ import annotations

DECLARATIONS = """
// the kernel and its command line
const char linux_banner[*];
char *saved_command_line;
struct uts_namespace init_uts_ns;
unsigned long tainted_mask;
const struct taint_flag taint_flags[];
struct boot_params boot_params;
int panic_timeout;
int panic_on_oops;
int panic_on_warn;
int oops_in_progress;
atomic_t panic_cpu;
int crashing_cpu;
int sysrq_pressed;
note_buf_t *crash_notes;
struct kimage *kexec_crash_image;
struct kimage *kexec_image;
unsigned char *vmcoreinfo_data;
size_t vmcoreinfo_size;
u32 *vmcoreinfo_note;
const char *dmi_ident[];

// its log
struct printk_ringbuffer *prb;
char *log_buf;
u32 log_buf_len;

// processors
struct cpumask __cpu_possible_mask;
struct cpumask __cpu_present_mask;
struct cpumask __cpu_online_mask;
struct cpumask __cpu_active_mask;
struct cpumask __cpu_dying_mask;
struct cpumask cpu_callout_mask;
unsigned int nr_cpu_ids;
atomic_t __num_online_cpus;
unsigned long __per_cpu_offset[];
struct cpuinfo_x86 boot_cpu_data;
unsigned int cpu_khz;
unsigned int tsc_khz;
unsigned int __pgtable_l5_enabled;
enum l1tf_mitigations l1tf_mitigation;
gate_desc idt_table[];
const sys_call_ptr_t sys_call_table[];
struct orc_entry orc_fp_entry;
struct mod_tree_root mod_tree;
struct pv_info pv_info;
struct paravirt_patch_template pv_ops;
struct e820_table *e820_table;
unsigned long _cea_offset;
unsigned long phys_base;
unsigned long page_offset_base;
unsigned long vmalloc_base;
unsigned long vmemmap_base;
unsigned long boot_option_idle_override;

// Xen
struct start_info *xen_start_info;
unsigned long *xen_p2m_addr;
unsigned long *p2m_missing;

// tasks
struct task_struct init_task;
struct task_struct *init_tasks[];
struct signal_struct init_signals;
struct fs_struct init_fs;
struct files_struct init_files;
struct cred init_cred;
struct mm_struct init_mm;
struct pid_namespace init_pid_ns;
struct user_namespace init_user_ns;
struct ipc_namespace init_ipc_ns;
struct time_namespace init_time_ns;
struct cgroup_namespace init_cgroup_ns;
struct nsproxy init_nsproxy;
struct cgroup_root cgrp_dfl_root;
struct css_set init_css_set;
struct cgroup_subsys *cgroup_subsys[];
struct task_group root_task_group;
struct list_head task_groups;
struct rt_bandwidth def_rt_bandwidth;
const char *const task_state_array[];
int nr_threads;
int pid_max;
unsigned long total_forks;
struct hlist_head *pid_hash;
struct hlist_head uidhash_table[];
int arch_task_struct_size;
struct kmem_cache *task_struct_cachep;
unsigned long avenrun[3];

// memory
unsigned long max_pfn;
unsigned long min_low_pfn;
unsigned long max_low_pfn;
unsigned long max_mapnr;
void *high_memory;
struct page *mem_map;
struct pglist_data *node_data[];
struct pglist_data contig_page_data;
nodemask_t node_states[NR_NODE_STATES];
unsigned int nr_node_ids;
struct mem_section **mem_section;
unsigned long __highest_present_section_nr;
int sections_per_block;
unsigned long memory_block_size_probed;
struct memblock memblock;
atomic_long_t _totalram_pages;
unsigned long totalram_pages;
unsigned long totalreserve_pages;
atomic_long_t vm_zone_stat[NR_VM_ZONE_STAT_ITEMS];
atomic_long_t vm_node_stat[NR_VM_NODE_STAT_ITEMS];
atomic_long_t vm_numa_event[NR_VM_NUMA_EVENT_ITEMS];
atomic_long_t vm_numa_stat[NR_VM_NUMA_STAT_ITEMS];
struct percpu_counter vm_committed_as;
int sysctl_overcommit_memory;
int sysctl_overcommit_ratio;
unsigned long sysctl_overcommit_kbytes;
uint8_t empty_zero_page[];
unsigned long huge_zero_pfn;
struct folio *huge_zero_folio;
struct hstate hstates[];
int hugetlb_max_hstate;
struct list_head slab_caches;
struct kset *slab_kset;
struct kmem_cache *kmem_cache;
struct kmem_cache *vm_area_cachep;
struct vm_struct *vmlist;
struct list_head vmap_area_list;
struct rb_root vmap_area_root;
struct vmap_node *vmap_nodes;
unsigned int nr_vmap_nodes;
unsigned int vmap_zone_size;
struct vm_area_struct gate_vma;
const struct trace_print_flags pageflag_names[];
const struct trace_print_flags gfpflag_names[];
const struct trace_print_flags vmaflag_names[];
void **stack_pools;
void *stack_pools[];
struct address_space *swapper_spaces[];
unsigned int nr_swapper_spaces[];
struct swap_info_struct *swap_info[];
struct plist_head swap_active_head;
unsigned int nr_swapfiles;
long total_swap_pages;
atomic_long_t nr_swap_pages;
struct resource iomem_resource;
struct resource ioport_resource;
const unsigned char mt_pivots[];
const unsigned char mt_slots[];
const unsigned char mt_min_slots[];

// time
volatile unsigned long jiffies;
u64 jiffies_64;
struct tk_data timekeeper_data[];
struct tk_data tk_core;
struct list_head clocksource_list;
struct clocksource *curr_clocksource;
struct timer_list poll_spurious_irq_timer;
unsigned int sysctl_timer_migration;

// interrupts and deferred work
struct maple_tree sparse_irqs;
struct radix_tree_root irq_desc_tree;
unsigned int total_nr_irqs;
int nr_irqs;
struct irq_chip no_irq_chip;
struct softirq_action softirq_vec[NR_SOFTIRQS];
struct workqueue_struct *system_wq;
struct list_head workqueues;
struct idr worker_pool_idr;

// modules, tracing, BPF, live patches
struct list_head modules;
struct kset *module_kset;
const struct kobj_type module_ktype;
struct list_head ftrace_events;
struct idr prog_idr;
struct idr map_idr;
struct idr link_idr;
struct idr btf_idr;
const char *const func_id_str[];
struct rb_root uprobes_tree;
struct list_head klp_patches;
struct klp_patch *klp_transition_patch;

// file systems
struct list_head super_blocks;
struct super_block *blockdev_superblock;
struct vfsmount *pipe_mnt;
struct vfsmount *sock_mnt;
struct vfsmount *shm_mnt;
const struct file_operations def_blk_fops;
const struct file_operations ns_file_operations;
const struct file_operations shm_file_operations;
const struct file_operations shm_file_operations_huge;
const struct file_operations hugetlbfs_file_operations;
const struct file_operations socket_file_ops;
struct dentry *sysfs_dentry;
struct kernfs_root *sysfs_root;
struct kernfs_node *sysfs_root_kn;
struct list_head all_bdis;
struct list_head bdi_list;
struct list_head kclist_head;
struct files_stat_struct files_stat;

// devices
const struct class block_class;
const struct device_type disk_type;
const struct device_type part_type;
struct blk_major_name *major_names[];
struct kobj_map *cdev_map;
struct char_device_struct *chrdevs[255];
struct kset *bus_kset;
struct kset *class_kset;
struct kset *devices_kset;
const struct kobj_type bus_ktype;
const struct kobj_type class_ktype;
const struct kobj_type device_ktype;
const struct kobj_type driver_ktype;
const struct bus_type pci_bus_type;
const struct bus_type platform_bus_type;
const struct bus_type memory_subsys;
struct list_head pci_root_buses;
struct console *console_drivers;
struct hlist_head console_list;
struct list_head tty_drivers;
struct list_head crypto_alg_list;

// network and IPC
struct net init_net;
struct list_head net_namespace_list;
struct net_device *blackhole_netdev;
struct neigh_table arp_tbl;
struct neigh_table nd_tbl;
struct inet_hashinfo tcp_hashinfo;
struct udp_table udp_table;
struct sk_buff_head audit_queue;
int ipc_mni_shift;
"""
