;; A preview1 command that grows a table without end, which no guest in Rust can do.
;; It ends with status 0 when the host refuses, and with 1 when 20 million entries were given.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (table $table 1 funcref)
  (func (export "_start")
    (loop $grow
      (if (i32.eq (table.grow $table (ref.null func) (i32.const 100000)) (i32.const -1))
        (then (call $exit (i32.const 0))))
      (br_if $grow (i32.lt_u (table.size $table) (i32.const 20000000))))
    (call $exit (i32.const 1))))
