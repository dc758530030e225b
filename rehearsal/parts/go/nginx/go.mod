module rehearsal/nginx

go 1.24
