package resource

type domainIndex struct{}
