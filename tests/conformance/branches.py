"""The branches of kernel/taskstats.c (revision 79d2e1919a27), and of what stands around it.

What a client cannot observe has the reason beside it; all others have a case.
"""

from typing import NamedTuple

_SIZED = "the message was allocated with room for it: taskstats_packet_size"
_RACE = "a moment between two statements of another task, after which the answer is the same: "
_BOOT = "runs at boot, before there is a client"


class Branch(NamedTuple):
    """A function, one of its branches in our words, and why no client can observe it."""

    function: str
    name: str
    unseen: str = ""


_TASKSTATS = [
    Branch("prepare_reply", "no memory for the message"),
    Branch("prepare_reply", "an exit takes the next number of its CPU"),
    Branch("prepare_reply", "a reply has the request's number and port"),
    Branch("prepare_reply", "no room for the header", _SIZED),
    Branch("send_reply", "sent to who asked"),
    Branch("send_reply", "the asker's queue is full"),
    Branch("send_cpu_listeners", "one listener gets the message itself"),
    Branch("send_cpu_listeners", "several listeners each get a copy"),
    Branch("send_cpu_listeners", "no memory for a copy"),
    Branch("send_cpu_listeners", "a listener's port is gone: it is removed"),
    Branch("send_cpu_listeners", "a listener's queue is full: it stays"),
    Branch("send_cpu_listeners", "all were there: none is removed"),
    Branch("send_cpu_listeners", "a port is looked up in the initial network namespace"),
    Branch("send_cpu_listeners", "an unused copy is freed", "kernel memory alone"),
    Branch("exe_add_tsk", "there is an executable"),
    Branch("exe_add_tsk", "there is none"),
    Branch("fill_stats", "identity and figures of a task"),
    Branch("fill_stats", "ids as the asker's namespaces number them"),
    Branch("fill_stats_for_pid", "no such task"),
    Branch("fill_stats_for_pid", "found"),
    Branch("fill_stats_for_tgid", "no such task"),
    Branch(
        "fill_stats_for_tgid",
        "the task is just being released",
        _RACE + "ESRCH, as of a task that is gone",
    ),
    Branch("fill_stats_for_tgid", "begins with the sums of threads that ended"),
    Branch("fill_stats_for_tgid", "no thread has ended"),
    Branch("fill_stats_for_tgid", "leaves out threads that have exited"),
    Branch("fill_stats_for_tgid", "adds each living thread"),
    Branch("fill_tgid_exit", "adds a thread that exits to its group"),
    Branch("fill_tgid_exit", "no memory was found for the sums"),
    Branch("add_del_listener", "a CPU that is not possible"),
    Branch(
        "add_del_listener",
        "another user namespace",
        "who is in one has no capability in the initial one, and generic netlink says EPERM before",
    ),
    Branch("add_del_listener", "another PID namespace"),
    Branch("add_del_listener", "registers on each CPU of the list"),
    Branch("add_del_listener", "is registered there already"),
    Branch(
        "add_del_listener",
        "is registered there, and just being removed",
        _RACE + "it is registered once",
    ),
    Branch("add_del_listener", "no memory for a listener: all of the list is undone"),
    Branch("add_del_listener", "deregisters its own port"),
    Branch("add_del_listener", "was not registered"),
    Branch("parse", "no list", "its callers have looked for the attribute before"),
    Branch("parse", "longer than the limit"),
    Branch("parse", "empty payload", "the policy refuses it before, with ERANGE"),
    Branch("parse", "no memory for the copy"),
    Branch("parse", "a list without a NUL"),
    Branch("parse", "what follows the NUL is ignored"),
    Branch("parse", "a list that is read"),
    Branch("parse", "a list that is none"),
    Branch("mk_reply", "of a task"),
    Branch("mk_reply", "of a group"),
    Branch("mk_reply", "the struct is aligned where that is needed"),
    Branch("mk_reply", "no room for the nest", _SIZED),
    Branch("mk_reply", "no room for the id", _SIZED),
    Branch("mk_reply", "no room for the struct", _SIZED),
    Branch("cgroupstats_user_cmd", "no descriptor in the request"),
    Branch("cgroupstats_user_cmd", "the descriptor is not open"),
    Branch("cgroupstats_user_cmd", "no memory for the message"),
    Branch("cgroupstats_user_cmd", "no room for the counts", _SIZED),
    Branch("cgroupstats_user_cmd", "not a cgroup that can be counted"),
    Branch("cgroupstats_user_cmd", "counts"),
    Branch("cmd_attr_register_cpumask", "no memory for the mask"),
    Branch("cmd_attr_register_cpumask", "the list is refused"),
    Branch("cmd_attr_register_cpumask", "registers"),
    Branch("cmd_attr_deregister_cpumask", "no memory for the mask"),
    Branch("cmd_attr_deregister_cpumask", "the list is refused"),
    Branch("cmd_attr_deregister_cpumask", "deregisters"),
    Branch("taskstats_packet_size", "an id, a struct and the nest around them"),
    Branch("cmd_attr_pid", "no memory for the message"),
    Branch("cmd_attr_pid", "no room for the record", _SIZED),
    Branch("cmd_attr_pid", "no such task"),
    Branch("cmd_attr_pid", "replies"),
    Branch("cmd_attr_tgid", "no memory for the message"),
    Branch("cmd_attr_tgid", "no room for the record", _SIZED),
    Branch("cmd_attr_tgid", "no such task"),
    Branch("cmd_attr_tgid", "replies"),
    Branch("taskstats_user_cmd", "REGISTER comes first"),
    Branch("taskstats_user_cmd", "then DEREGISTER"),
    Branch("taskstats_user_cmd", "then PID"),
    Branch("taskstats_user_cmd", "then TGID"),
    Branch("taskstats_user_cmd", "none of them"),
    Branch("taskstats_tgid_alloc", "the group has sums already"),
    Branch("taskstats_tgid_alloc", "a process of one thread has none"),
    Branch("taskstats_tgid_alloc", "the first of several threads to exit brings them"),
    Branch("taskstats_tgid_alloc", "no memory"),
    Branch(
        "taskstats_tgid_alloc",
        "another thread brought them meanwhile",
        _RACE + "the group has one set of sums",
    ),
    Branch("taskstats_exit", "the family is not there yet", _BOOT),
    Branch("taskstats_exit", "a thread of a group is added to its sums"),
    Branch("taskstats_exit", "nobody listens on this CPU"),
    Branch("taskstats_exit", "no memory for the message"),
    Branch("taskstats_exit", "no room for the task", _SIZED),
    Branch("taskstats_exit", "the last of its group has AGROUP"),
    Branch("taskstats_exit", "the group is told if not the last or never of several"),
    Branch("taskstats_exit", "the last of several threads brings the group"),
    Branch("taskstats_exit", "no room for the group", _SIZED),
    Branch("taskstats_exit", "looks for listeners on one CPU, counts on another"),
    Branch("taskstats_ops", "GET needs CAP_NET_ADMIN"),
    Branch("taskstats_ops", "CGROUPSTATS_CMD_GET needs nothing"),
    Branch("taskstats_ops", "policy of GET"),
    Branch("taskstats_ops", "policy of CGROUPSTATS_CMD_GET"),
    Branch("taskstats_ops", "no other command, and no dump"),
    Branch("family", "its name, version and header"),
    Branch("family", "seen from every network namespace"),
    Branch("family", "reserved bytes count above CGROUPSTATS_CMD_GET"),
    Branch("taskstats_init_early", "lists and cache are made", _BOOT),
    Branch("taskstats_init", "the family is refused", _BOOT),
    Branch("taskstats_init", "the family is registered", _BOOT),
]

#: net/netlink/af_netlink.c, net/netlink/genetlink.c and lib/nlattr.c, as far as this family shows.
_GENERIC = [
    Branch("netlink_rcv_skb", "several messages in one datagram"),
    Branch("netlink_rcv_skb", "a length that cannot be ends it"),
    Branch("netlink_rcv_skb", "not a request"),
    Branch("netlink_rcv_skb", "a control message"),
    Branch("netlink_rcv_skb", "acknowledged if asked, after the reply"),
    Branch("netlink_rcv_skb", "an error is told unasked"),
    Branch("netlink_ack", "repeats the request, or its header alone"),
    Branch("netlink_ack", "extended: what was wrong, and where"),
    Branch("netlink_unicast", "the header's port is not looked at"),
    Branch("netlink_overrun", "tells ENOBUFS once"),
    Branch("netlink_overrun", "counts drops"),
    Branch("genl_rcv_msg", "no such family"),
    Branch("genl_rcv_msg", "shorter than its header"),
    Branch("genl_rcv_msg", "no such command, before rights are looked at"),
    Branch("genl_rcv_msg", "rights are looked at before attributes"),
    Branch("genl_rcv_msg", "rights of who opened and of who sends"),
    Branch("genl_rcv_msg", "version and echo are not looked at"),
    Branch("ctrl_getfamily", "no such family"),
    Branch("nla_parse", "unknown attributes are passed over"),
    Branch("nla_parse", "of a type that comes twice the last counts"),
    Branch("nla_parse", "flags in the type are passed over"),
    Branch("nla_parse", "what is left after the last attribute"),
    Branch("nla_validate", "too short"),
    Branch("nla_validate", "too long"),
]

#: kernel/exit.c, as far as ac_ppid shows it.
_EXIT = [
    Branch("find_new_reaper", "another thread of the parent lives"),
    Branch("find_new_reaper", "the nearest subreaper above"),
    Branch("find_new_reaper", "no subreaper above: init"),
    Branch(
        "find_new_reaper",
        "a subreaper above whose threads have all exited",
        _RACE + "its children are given away before it is a zombie",
    ),
]

#: What the probe's programs see: kernel/fork.c, kernel/sched/core.c, kernel/cgroup/cgroup.c.
_PROBE = [
    Branch("kernel_clone", "a process is made"),
    Branch("kernel_clone", "a thread is made"),
    Branch("do_task_dead", "a task's last switch"),
    Branch("cgroup_mkdir", "a cgroup is made"),
    Branch("cgroup_rmdir", "a cgroup is removed"),
]

BRANCHES = (*_TASKSTATS, *_GENERIC, *_EXIT, *_PROBE)
