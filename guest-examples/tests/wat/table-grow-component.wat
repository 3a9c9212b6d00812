;; The same as `table-grow.wat`, as a component: `run` answers ok when the host refuses to grow the table, and
;; an error when 20 million entries were given.
(component
  (core module $module
    (table $table 1 funcref)
    (func (export "run") (result i32)
      (loop $grow
        (if (i32.eq (table.grow $table (ref.null func) (i32.const 100000)) (i32.const -1))
          (then (return (i32.const 0))))
        (br_if $grow (i32.lt_u (table.size $table) (i32.const 20000000))))
      (i32.const 1)))
  (core instance $instance (instantiate $module))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
